"""Training one network from an initialisation or from predicted weights."""
