"""The time series that the package aeon ships, in the archive's format .ts; nothing of aeon is imported."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from racing.data.files import existing
from racing.parts import DataAbsentError, Part, Splits, splits_of

__all__ = ["ucr"]


def ucr(root: Path, name: str) -> Splits:
    """A set of the UCR or UEA archive, both of its parts in one, dealt out anew: (N, channels, length).

    A quarter is chosen by and a third judged on, since the published training parts have a few dozen series.
    """
    folder = _folder(root) / name.removesuffix("_eq")
    inputs, labels = zip(*(_read(existing(folder / f"{name}_{part}.ts")) for part in ("TRAIN", "TEST")), strict=True)
    both = torch.cat(inputs)
    classes = sorted({label for part in labels for label in part})
    targets = torch.tensor([classes.index(label) for part in labels for label in part])
    parts = splits_of(both, targets, len(both) // 4, len(both) // 3, by_class=True)
    mean, std = (how(parts.train.inputs, (0, 2), keepdim=True) for how in (torch.mean, torch.std))  # (1, channels, 1)
    return Splits(*(Part((p.inputs - mean) / std, p.targets) for p in (parts.train, parts.choose, parts.judge)))


def _folder(root: Path) -> Path:
    """Where the sets lie: a folder "aeon" among the data, or in the package itself."""
    if (root / "aeon").exists():
        return root / "aeon"
    spec = importlib.util.find_spec("aeon")
    if spec is None or spec.origin is None:
        raise DataAbsentError(f"{root / 'aeon'} does not exist, and the package aeon is not installed")
    return Path(spec.origin).parent / "datasets" / "data"


def _read(path: Path) -> tuple[Tensor, list[str]]:
    """(N, channels, length) and the labels: after @data a line a series, channels and label between colons."""
    lines = path.read_text("utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().lower() == "@data") + 1
    series, labels = [], []
    for line in lines[start:]:
        *channels, label = line.split(":")
        series.append([[float(value) for value in channel.split(",")] for channel in channels])
        labels.append(label.strip())
    return torch.tensor(series), labels
