"""Image files in folders and archives, and how a model takes images."""
