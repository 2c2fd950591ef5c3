"""Training a graph hypernetwork on architectures that are drawn on the fly."""
