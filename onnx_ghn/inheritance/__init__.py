"""Inheriting weights from trained models of other sizes and kinds. No torch."""
