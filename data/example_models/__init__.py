"""Builders of the example models: each function exports one network to a path. See data/make_examples.py."""

SEED = 0
#: How far weights are moved where an exporter would make one tensor of equal ones.
APART = 1e-3
