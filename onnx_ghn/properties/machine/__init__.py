"""Latency and memory of any model on this machine, from what its operators cost here."""
