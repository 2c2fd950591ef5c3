"""Training and judging a detector on a backbone, from an initialisation or from predicted weights."""
