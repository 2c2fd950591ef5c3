"""Whether an accuracy is more than guessing."""

from __future__ import annotations

from scipy.stats import binom

from onnx_ghn.evaluate import Accuracy

__all__ = ["chance_note"]

_LIKELY = 0.05  # a guesser is as good in more than one of twenty cases


def chance_note(after: Accuracy, n_classes: int) -> str | None:
    """A sentence where the held-out images do not show that a classifier of balanced classes has learned anything."""
    right = round(after.top1 * after.n_images / 100)
    if n_classes < 2 or float(binom.sf(right - 1, after.n_images, 1 / n_classes)) <= _LIKELY:
        return None
    return (
        f"after training it is right on {after.top1:.1f} % of {after.n_images:,} held-out images, which is "
        f"within chance (guessing one of {n_classes} classes: {100 / n_classes:.1f} %); train longer, change `lr`, "
        "or look at the data"
    )
