"""Queries, keys and values that one tensor holds side by side, seen as three: another model may hold them apart.

torch's MultiheadAttention and timm store one weight for all three, Keras, Flax and Hugging Face three weights.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.graph.layout import Layout
from onnx_ghn.inheritance.labels import Ints, Span
from onnx_ghn.inheritance.pairing import Made
from onnx_ghn.inheritance.tracing import Heads, Part, Trace

__all__ = ["holds_apart", "holds_packed", "joined", "unpack"]


@dataclasses.dataclass(frozen=True)
class _Run:
    """The queries, keys or values of an attention: channels of one span, and the width of a head."""

    what: str
    span: Span
    first: int
    size: int
    width: int

    @property
    def labels(self) -> Ints:
        return self.span.labels[self.first : self.first + self.size]


def holds_packed(trace: Trace) -> bool:
    """Whether some tensor holds the queries, the keys and the values of an attention."""
    return next(_packed_axes(trace), None) is not None


def holds_apart(trace: Trace) -> bool:
    """Whether the queries, the keys and the values of some attention come from three tensors."""
    return any(len({run.span.name for run in runs}) == len(runs) for runs in _attentions(trace))


def unpack(trace: Trace) -> None:
    """See three tensors in each that holds queries, keys and values; `Trace.parts` tells what these are parts of."""
    renamed: dict[str, dict[str, str]] = {}
    for name, axis, span, runs in list(_packed_axes(trace)):
        if name not in renamed:
            renamed[name] = _replace(trace, name, axis, span, runs)
    trace.heads = [_renamed(heads, renamed) for heads in trace.heads]


def joined(trace: Trace, donor: Trace, name: str, made: Mapping[str, Made]) -> Made | None:
    """How a tensor is made of its three parts; None where one of them is not.

    Args:
        name: of the recipient, which is seen as three.
        made: how each of these is made.
    """
    parts = trace.parts_of(name)
    found = [made[part] for part in parts if part in made]
    if len(found) < len(parts):
        return None
    sources = list(dict.fromkeys(donor.whole(each.source) for each in found if each.source))
    beside = [f"{' and '.join(sources[1:])} beside it"] if len(sources) > 1 else []
    rules = ", ".join([*beside, *dict.fromkeys(each.rule for each in found)])
    doubts = "; ".join(dict.fromkeys(each.doubt for each in found if each.doubt))
    values = _side_by_side([each.values for each in found], trace.parts[parts[0]].axis)
    return Made(sources[0] if sources else "", rules, doubts, values)


def _side_by_side(values: Sequence[Callable[[], Array]], axis: int) -> Callable[[], Array]:
    return lambda: np.concatenate([make() for make in values], axis)


def _attentions(trace: Trace) -> Iterator[tuple[_Run, ...]]:
    """Queries, keys and values of each attention of several heads, where each are a run of some tensor's channels."""
    heads_of = {int(label): heads for heads in trace.heads for label in heads.right.reshape(-1)}
    for scores, values in trace.mixtures:
        heads = heads_of.get(int(scores.reshape(-1)[0]))
        if heads is None:
            continue
        runs = (
            _run(trace, "queries", heads.left, heads.width),
            _run(trace, "keys", heads.right, heads.width),
            _run(trace, "values", values, values.shape[-1]),
        )
        found = tuple(run for run in runs if run is not None)
        if len(found) == len(runs):
            yield found


def _run(trace: Trace, what: str, labels: Ints, width: int) -> _Run | None:
    """The run that labels are; those that several heads share stand there once for each."""
    own = np.unique(labels)
    found = trace.labels.part_of(own)
    return None if found is None else _Run(what, *found, len(own), width)


def _packed_axes(trace: Trace) -> Iterator[tuple[str, int, Span, tuple[_Run, ...]]]:
    """Tensors and their axes whose channels are the queries, keys and values of an attention, in whatever order."""
    runs_of: dict[bytes, tuple[_Run, ...]] = {}
    for runs in _attentions(trace):
        for order in itertools.permutations(runs):
            labels = np.concatenate([run.labels for run in order])
            runs_of.setdefault(trace.labels.roots(labels).tobytes(), order)
    for name in trace.uses if runs_of else ():
        for axis, span in enumerate(trace.axes[name]):
            if span is not None and (found := runs_of.get(trace.labels.roots(span.labels).tobytes())) is not None:
                yield name, axis, span, found


def _replace(trace: Trace, name: str, axis: int, span: Span, runs: Sequence[_Run]) -> dict[str, str]:
    """Put three tensors in the place of one; their names by what they are."""
    parameter, use, axes = trace.parameters[name], trace.uses.pop(name), trace.axes.pop(name)
    shape = list(parameter.shape)
    names = {}
    first = 0
    for run, part in zip(runs, trace.labels.split(span, [run.size for run in runs]), strict=True):
        names[run.what] = own = f"{name} [{run.what}]"
        part.name = own
        part.strides = {n for n in span.strides if n < part.size and part.size % n == 0}
        part.strides |= {run.width} if run.width == part.size else set()  # one head, where others have several
        shape[axis] = part.size
        trace.parts[own] = Part(name, run.what, axis, first, part.size)
        trace.parameters[own] = dataclasses.replace(parameter, name=own, layout=Layout(tuple(shape)))
        trace.axes[own] = tuple(part if i == axis else other for i, other in enumerate(axes))
        trace.uses[own] = use
        if name in trace.fed_by:
            trace.fed_by[own] = trace.fed_by[name]
        if name in trace.places:
            trace.places[own] = trace.places[name]
        if name in trace.standardised:
            trace.standardised.add(own)
        first += part.size
    return names


def _renamed(heads: Heads, names: Mapping[str, Mapping[str, str]]) -> Heads:
    """Queries and keys as their own parts write them."""
    left = tuple(names.get(name, {}).get("queries", name) for name in heads.left_writers)
    right = tuple(names.get(name, {}).get("keys", name) for name in heads.right_writers)
    return dataclasses.replace(heads, left_writers=left, right_writers=right)
