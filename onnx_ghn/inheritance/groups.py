"""The inputs of grouped convolutions: each output reads the channels of its own group alone."""

from __future__ import annotations

import numpy as np

from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.transfer import Step, columns_in_groups

__all__ = ["group_inputs", "groups_read"]


def groups_read(trace: Trace, donor: Trace, channels: ChannelMap, name: str, source: str) -> tuple[Ints, int] | None:
    """For each group of a grouped convolution the donor's group whose inputs it reads, and how many the donor has.

    None where the inputs are not known, or where a group reads inputs of several.
    """
    mine, theirs = trace.grouped.get(name), donor.grouped.get(source)
    if mine is None or theirs is None:
        return None
    read = channels.positions(mine.inputs, theirs.inputs)
    if read is None or (read < 0).any():
        return None
    groups = (read // (len(theirs.inputs) // theirs.groups)).reshape(mine.groups, -1)
    return (groups[:, 0], theirs.groups) if (groups == groups[:, :1]).all() else None


def group_inputs(
    trace: Trace, donor: Trace, channels: ChannelMap, name: str, source: str, axes: tuple[int, int]
) -> tuple[Step | None, str]:
    """How the inputs of a grouped convolution's weight are made, when its outputs are chosen.

    Args:
        axes: of its outputs and of its inputs.

    Returns:
        the step, and a doubt; None, and why it cannot be made.
    """
    mine, theirs = trace.grouped[name], donor.grouped.get(source)
    if theirs is None:
        return None, f"{source} is not cut into groups as {name} is"
    made = channels.positions(mine.outputs, theirs.outputs)
    read = channels.positions(mine.inputs, theirs.inputs)
    n_out, n_in = len(mine.outputs) // mine.groups, len(mine.inputs) // mine.groups
    their_out, their_in = len(theirs.outputs) // theirs.groups, len(theirs.inputs) // theirs.groups
    table = np.zeros((len(mine.outputs), n_in), np.int64)
    missed = 0
    for output in range(len(mine.outputs)):
        group = output // n_out
        target = int(made[output]) // their_out if made is not None else 0
        if read is None:
            table[output] = np.arange(n_in) * their_in // n_in
            missed += 1
            continue
        inputs = read[group * n_in : (group + 1) * n_in] - target * their_in
        outside = (inputs < 0) | (inputs >= their_in)
        missed += int(outside.any())
        table[output] = np.where(outside, np.arange(n_in) * their_in // n_in, inputs)
    counts = np.stack([np.bincount(row, minlength=their_in)[row] for row in table])
    doubt = f"{missed} outputs read channels of other groups than the donor's" if missed else ""
    return columns_in_groups(*axes, table, counts), doubt
