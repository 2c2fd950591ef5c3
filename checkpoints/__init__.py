"""Shipped graph hypernetworks: one folder a checkpoint (model.safetensors, config.json, README.md)."""
