"""Norms of a recipient that is wider: what they average over grows by zeros, or by copies that all count alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.donor import Donor
from onnx_ghn.inheritance.labels import Span
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["Padding", "norm_doubts", "statistics_factor", "variance_shift"]


class Padding:
    """Which channels of a recipient grow by zeros, since they cannot be copied equally often.

    That is noted in the choices of channels, too.

    Zeros are exact where what is written there has mean zero over the channels (a norm takes that mean off in any
    case), so not where outputs of norms that take it off are added to branches as they are.
    """

    def __init__(self, trace: Trace, channels: ChannelMap) -> None:
        self._trace, self._channels = trace, channels
        self._takes_mean: set[int] = set()
        for labels, names, takes_mean in self._trace.norms:
            root = self._trace.labels.root(labels)
            if len(np.unique(self._trace.labels.roots(labels))) < len(labels):
                continue
            if not (takes_mean and set(names) & self._trace.skipped_norms):
                self._channels.padded.add(root)
                if takes_mean:
                    self._takes_mean.add(root)
        for labels, names, takes_mean in self._trace.norms:
            root = self._trace.labels.root(labels)
            if takes_mean and set(names) & self._trace.skipped_norms:
                self._channels.padded.discard(root)

    def applies(self, span: Span, other: Span) -> bool:
        """Whether an axis grows by zeros."""
        root = self._trace.labels.root(span.labels)
        return root in self._channels.padded and span.size > other.size and span.size % other.size != 0

    def factor(self, name: str, span: Span, other: Span) -> float:
        """√(old / new) for the scale of a norm over zeros, 1 for anything else."""
        if self._trace.uses[name].kind != "norm_scale" or not self.applies(span, other):
            return 1.0
        return math.sqrt(other.size / span.size)

    def centres(self, name: str, span: Span, other: Span) -> bool:
        """Whether what a tensor writes into a stream that grows by zeros has its mean over the channels taken off."""
        root = self._trace.labels.root(span.labels)
        is_norm = self._trace.uses[name].kind in ("norm_scale", "norm_shift")
        return root in self._takes_mean and not is_norm and span.made and self.applies(span, other)


def norm_doubts(trace: Trace, channels: ChannelMap) -> list[str]:
    """Doubts of norms and sums whose channels are not copied equally often, when all channels are chosen."""
    uneven = 0
    before = _times_averaged(channels.theirs)
    for labels in trace.averaged:
        target = channels.target(labels)
        target = target[target >= 0]
        if not len(target):
            continue
        which, counts = np.unique(target, return_counts=True)
        shares = counts / before[which]
        uneven += int(shares.min() != shares.max())
    doubled = 0
    for labels in (labels for found in trace.summed.values() for labels in found):
        target = channels.chosen(labels)
        # Channels that the model itself sums twice stand twice in the donor's sum as well.
        doubled += int(len(np.unique(target)) < len(np.unique(trace.labels.roots(labels))))
    doubts = []
    if doubled:
        doubts.append(f"{doubled} sums over channels (softmax, L2 norms) count copies several times")
    if uneven:
        doubts.append(f"{uneven} norms average over channels that are not copied equally often")
    return doubts


def _times_averaged(trace: Trace) -> Array:
    """How often each united label stands among those that a norm averages over together; 1 for those of none.

    Positions that are turned in pairs make two channels one, so that these count twice in a norm before.
    """
    times = np.ones(trace.labels.count + 1)
    for labels in trace.averaged:
        which, counts = np.unique(trace.labels.roots(labels), return_counts=True)
        times[which] = counts
    return times


def statistics_factor(trace: Trace, donor: Donor, name: str, source: str) -> Callable[[], Array] | None:
    """√((variance + new epsilon) / (variance + the donor's)) for the scale of a batch norm of another epsilon."""
    mine, theirs = trace.batch_norms.get(name), donor.trace.batch_norms.get(source)
    if mine is None or theirs is None or mine[1] == theirs[1] or theirs[0] not in donor.trace.parameters:
        return None

    def factor() -> Array:
        variance = donor.values(theirs[0]).astype(np.float64)
        made: Array = np.sqrt((variance + mine[1]) / (variance + theirs[1]))
        return made

    return factor


def variance_shift(trace: Trace, donor: Donor, name: str, source: str) -> float:
    """What is added to the variance of a batch norm of another epsilon that has no scale to make up for it."""
    mine, theirs = trace.epsilons.get(name), donor.trace.epsilons.get(source)
    if mine is None or theirs is None or name in {variance for variance, _ in trace.batch_norms.values()}:
        return 0.0
    return theirs - mine
