"""One handler an operator kind: what nodes and parameters it makes. `graph/primitives.py` maps operators to them."""
