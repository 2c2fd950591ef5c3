"""The models of benchmarks/gpu_profile.py, and what measures them, each in a process of its own."""
