"""The modules behind `benchmarks/compat.py`: what other software does with a file, measured."""
