"""The tables that scikit-learn ships."""

from __future__ import annotations

from pathlib import Path

import torch
from sklearn import datasets

from racing.parts import Part, Splits, splits_of

__all__ = ["table"]

_LOADERS = {
    "digits": datasets.load_digits,
    "wine": datasets.load_wine,
    "breast cancer": datasets.load_breast_cancer,
    "diabetes": datasets.load_diabetes,
}


def table(root: Path, name: str) -> Splits:
    """Columns scaled to mean 0 and variance 1 on the training rows; so is the target of diabetes, a number.

    Args:
        root: not read, as scikit-learn brings its tables along.
    """
    found = _LOADERS[name]()
    is_number = name == "diabetes"
    inputs = torch.from_numpy(found.data).float()
    targets = torch.from_numpy(found.target)
    targets = targets.float()[:, None] if is_number else targets.long()
    n = len(inputs)
    parts = splits_of(inputs, targets, n // 5, n // 3, by_class=not is_number)
    mean, std = parts.train.inputs.mean(0), parts.train.inputs.std(0).clamp(min=1e-6)
    centre, spread = parts.train.targets.float().mean(), parts.train.targets.float().std()

    def scaled(part: Part) -> Part:
        return Part((part.inputs - mean) / std, (part.targets - centre) / spread if is_number else part.targets)

    return Splits(scaled(parts.train), scaled(parts.choose), scaled(parts.judge))
