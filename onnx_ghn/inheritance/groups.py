"""The inputs of grouped convolutions: each output reads the channels of its own group alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_ghn.inheritance.channel_map import ChannelMap
from onnx_ghn.inheritance.labels import Ints
from onnx_ghn.inheritance.tracing import Trace
from onnx_ghn.inheritance.transfer import Step, columns_in_groups

__all__ = ["group_inputs", "groups_read", "joined_axis"]


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


def joined_axis(trace: Trace, name: str, roles: Sequence[str]) -> int | None:
    """The axis that holds the inputs and the places of a grouped convolution's kernels, in this order; None where each
    has its own.

    So kernels are stored that a network standardises (1 × out × in · places).
    """
    shape = trace.parameters[name].shape
    layer = trace.grouped[name]
    n_in = len(layer.inputs) // layer.groups
    if shape[roles.index("in")] == n_in:
        return None
    return next((axis for axis, size in enumerate(shape) if roles[axis] != "out" and size % n_in == 0), None)


def group_inputs(
    trace: Trace, donor: Trace, channels: ChannelMap, name: str, source: str, axes: tuple[int, int]
) -> tuple[Step | None, str]:
    """How the inputs of a grouped convolution's weight are made, when its outputs are chosen.

    Args:
        axes: of its outputs and of its inputs, or of these and the places of a kernel.

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
    n_places = trace.parameters[name].shape[axes[1]] // n_in  # of a kernel, where these are no axes of their own
    table = (table[:, :, None] * n_places + np.arange(n_places)).reshape(len(table), -1)
    their_in *= n_places
    counts = np.stack([np.bincount(row, minlength=their_in)[row] for row in table])
    doubt = f"{missed} outputs read channels of other groups than the donor's" if missed else ""
    return columns_in_groups(*axes, table, counts), doubt
