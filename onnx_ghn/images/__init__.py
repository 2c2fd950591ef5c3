"""Image files in folders and archives, and the image inputs of models."""
