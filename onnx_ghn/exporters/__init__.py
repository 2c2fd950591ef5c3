"""Models of each framework to ONNX and back: one module a framework, each with `export` and `load`."""
