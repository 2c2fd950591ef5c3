"""Operators that torch computes slowly on CPUs or plans slowly on GPUs: depthwise convolutions, bfloat16 attention."""
