"""Trainers and evaluators: one loop, and one package for each kind of thing that is trained."""
