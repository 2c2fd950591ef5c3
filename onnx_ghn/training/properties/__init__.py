"""Measuring what networks reach after brief training, and fitting predictors of it."""
