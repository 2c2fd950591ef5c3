"""Trainers and evaluators, runnable as scripts (`python training/train_ghn.py`) and from the command line."""
