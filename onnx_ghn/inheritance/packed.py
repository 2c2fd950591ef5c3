"""Queries, keys and values that one tensor holds together, seen as three: another model may hold them apart.

torch's MultiheadAttention, timm and GPT-2 store one weight whose thirds they are; GPT-NeoX, BLOOM, Falcon and InternLM2
one that holds them head by head, or group by group where several queries share a key; Keras, Flax and most of Hugging
Face store three weights.
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

__all__ = ["joined", "needs_unpacking", "unpack"]

_APART = ("apart",)
_UNEVEN = "uneven"


@dataclasses.dataclass(frozen=True, eq=False)
class _Run:
    """The queries, keys or values of an attention.

    Attributes:
        span: whose channels they are.
        index: which of these they are, in order.
        width: of a head.
        shared: how many queries in a row share a key; 1 for keys and values.
    """

    what: str
    span: Span
    index: Ints
    width: int
    shared: int = 1

    @property
    def strides(self) -> set[int]:
        """Lengths of the parts that the model cuts them into, as `Span.strides` has them."""
        size = len(self.index)
        inside = {n for n in self.span.strides if n < self.width and self.width % n == 0}
        heads = {n for n in (self.width, self.shared * self.width) if n < size and size % n == 0}
        return inside | heads | ({size} if self.width == size else set())  # one head, where others have several


def needs_unpacking(traces: Sequence[Trace]) -> bool:
    """Whether models hold queries, keys and values otherwise than each other, or so that they grow apart alone.

    A tensor whose parts are equally long, thirds or heads by turns, grows as a whole: its parts are those of one axis.
    """
    found = [arranged for trace in traces if (arranged := _arrangements(trace))]
    return len(set(found)) > 1 or any(_UNEVEN in order for arranged in found for order in arranged)


def unpack(trace: Trace) -> None:
    """See a tensor for each of the queries, keys and values that one holds.

    `Trace.parts` tells what these are parts of.
    """
    packs_of: dict[bytes, tuple[_Run, ...]] = {}
    for runs in _attentions(trace):
        for pack in _packs(runs):
            packs_of.setdefault(trace.labels.roots(pack[0].span.labels).tobytes(), pack)
    if not packs_of:
        return
    renamed: dict[str, dict[str, str]] = {}
    moved: Ints = np.arange(trace.labels.count)
    for name in list(trace.uses):
        for axis, span in enumerate(trace.axes[name]):
            if span is None or name in renamed:
                continue
            found = packs_of.get(trace.labels.roots(span.labels).tobytes())
            if found is not None:
                renamed[name], spans = _replace(trace, name, axis, span, found)
                for run, own in zip(found, spans, strict=True):
                    moved[span.labels[run.index]] = own.labels
    _rename(trace, renamed, moved)


def joined(trace: Trace, donor: Trace, name: str, made: Mapping[str, Made]) -> Made | None:
    """How a tensor is made of its parts; None where one of them is not.

    Args:
        name: of the recipient, which is seen as several.
        made: how each of these is made.
    """
    parts = [trace.parts[part] for part in trace.parts_of(name)]
    found = [made[part] for part in trace.parts_of(name) if part in made]
    if len(found) < len(parts):
        return None
    sources = list(dict.fromkeys(donor.whole(each.source) for each in found if each.source))
    beside = [f"{' and '.join(sources[1:])} beside it"] if len(sources) > 1 else []
    rules = ", ".join([*beside, *dict.fromkeys(each.rule for each in found)])
    doubts = "; ".join(dict.fromkeys(each.doubt for each in found if each.doubt))
    values = _together([each.values for each in found], [part.index for part in parts], parts[0].axis)
    return Made(sources[0] if sources else "", rules, doubts, values)


def _together(values: Sequence[Callable[[], Array]], places: Sequence[Ints], axis: int) -> Callable[[], Array]:
    """The whole of parts that lie at those places along an axis."""
    order = np.argsort(np.concatenate(places))
    return lambda: np.concatenate([make() for make in values], axis).take(order, axis)


def _attentions(trace: Trace) -> Iterator[tuple[_Run, _Run, _Run]]:
    """Queries, keys and values of each attention, where each are channels of one span."""
    heads_of = {int(label): heads for heads in trace.heads for label in heads.right.reshape(-1)}
    for scores, values in trace.mixtures:
        heads = heads_of.get(int(scores.reshape(-1)[0]))
        if heads is None:
            continue
        width = values.shape[-1]
        shared = max(1, heads.left.size // max(1, len(np.unique(heads.right))))
        queries = _run(trace, "queries", heads.left, heads.width, shared)
        keys, own = _run(trace, "keys", heads.right, heads.width), _run(trace, "values", values, width)
        if queries is not None and keys is not None and own is not None:
            yield queries, keys, own


def _run(trace: Trace, what: str, labels: Ints, width: int, shared: int = 1) -> _Run | None:
    """The channels of a span that labels are; those that several heads share stand there once for each."""
    own = np.unique(labels)
    span = trace.labels.span_of(int(own[0]))
    index = own - span.start
    return _Run(what, span, index, width, shared) if span.name and index[-1] < span.size else None


def _packs(runs: Sequence[_Run]) -> list[tuple[_Run, ...]]:
    """Those of the queries, keys and values that together are all channels of one span."""
    found = []
    for span in dict.fromkeys(run.span for run in runs):
        pack = tuple(run for run in runs if run.span is span)
        places = np.sort(np.concatenate([run.index for run in pack]))
        if len(pack) > 1 and len(places) == span.size and (np.diff(places) == 1).all():
            found.append(pack)
    return found


def _arrangements(trace: Trace) -> frozenset[tuple[str, ...]]:
    """How the attentions of a model hold queries, keys and values: apart, or in which order a tensor has them."""
    found: set[tuple[str, ...]] = set()
    for runs in _attentions(trace):
        packs = _packs(runs)
        found |= {_order(pack) for pack in packs} if packs else {_APART}
    return frozenset(found)


def _order(pack: Sequence[_Run]) -> tuple[str, ...]:
    """In which order a span holds its parts; then "..." where that repeats, and a note on parts of unequal lengths."""
    number_at = np.empty(pack[0].span.size, np.int64)
    for number, run in enumerate(pack):
        number_at[run.index] = number
    pieces = [(number, len(list(same))) for number, same in itertools.groupby(number_at.tolist())]
    lengths = {length for _, length in pieces}
    repeats = len(pieces) > len(pack)
    is_even = len(lengths) == 1 and (not repeats or lengths == {run.width for run in pack})
    order = tuple(pack[number].what for number, _ in pieces[: len(pack)])
    return (*order, *(["..."] if repeats else []), *([] if is_even else [_UNEVEN]))


def _replace(trace: Trace, name: str, axis: int, span: Span, pack: Sequence[_Run]) -> tuple[dict[str, str], list[Span]]:
    """Put several tensors in the place of one; their names by what they are, and their spans."""
    parameter, use, axes = trace.parameters[name], trace.uses.pop(name), trace.axes.pop(name)
    shape = list(parameter.shape)
    names, spans = {}, []
    for run in pack:
        names[run.what] = own = f"{name} [{run.what}]"
        size = len(run.index)
        part = trace.labels.new(size, own, axis)
        part.role, part.contracted, part.made, part.strides = span.role, span.contracted, span.made, run.strides
        part.head = run.width
        trace.labels.unite(part.labels, span.labels[run.index])
        spans.append(part)
        shape[axis] = size
        trace.parts[own] = Part(name, run.what, axis, run.index)
        trace.parameters[own] = dataclasses.replace(parameter, name=own, layout=Layout(tuple(shape)))
        trace.axes[own] = tuple(part if i == axis else other for i, other in enumerate(axes))
        trace.uses[own] = use
        if name in trace.fed_by:
            trace.fed_by[own] = trace.fed_by[name]
        if name in trace.places:
            trace.places[own] = trace.places[name]
        if name in trace.standardised:
            trace.standardised.add(own)
        if name in trace.epsilons:
            trace.epsilons[own] = trace.epsilons[name]
    return names, spans


def _rename(trace: Trace, renamed: Mapping[str, Mapping[str, str]], moved: Ints) -> None:
    """Let heads, their values and batch norms be those of the parts.

    Args:
        moved: the label of a part's channel by that of the whole's.
    """
    trace.heads = [_of_parts(heads, renamed, moved) for heads in trace.heads]
    trace.mixtures = [(moved[scores], moved[values]) for scores, values in trace.mixtures]
    for name, (variance, epsilon) in list(trace.batch_norms.items()):
        for what, own in renamed.get(name, {}).items():
            trace.batch_norms[own] = (renamed.get(variance, {}).get(what, variance), epsilon)


def _of_parts(heads: Heads, names: Mapping[str, Mapping[str, str]], moved: Ints) -> Heads:
    """Queries and keys as their own parts write them."""
    left = tuple(names.get(name, {}).get("queries", name) for name in heads.left_writers)
    right = tuple(names.get(name, {}).get("keys", name) for name in heads.right_writers)
    return dataclasses.replace(
        heads, left=moved[heads.left], right=moved[heads.right], left_writers=left, right_writers=right
    )
