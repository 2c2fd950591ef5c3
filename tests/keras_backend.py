"""The backend of Keras that tests run on: the environment's own, or one that is installed."""

from __future__ import annotations

import importlib.util
import os

__all__ = ["choose_keras_backend"]


def choose_keras_backend(*backends: str) -> None:
    """Name a backend before Keras is imported for the first time, unless KERAS_BACKEND names one already.

    Args:
        backends: of which the first that is installed is taken, or torch.
    """
    found = (name for name in backends if importlib.util.find_spec(name))
    os.environ.setdefault("KERAS_BACKEND", next(found, "torch"))
