"""The ends of a model: channels of its input, which nothing writes, and of its output, which are classes."""

from __future__ import annotations

from collections.abc import Collection

from onnx_ghn.inheritance.labels import Span
from onnx_ghn.inheritance.structure import MATRICES, Structure
from onnx_ghn.inheritance.tracing import Trace

__all__ = ["Ends"]


class Ends:
    """What stands at the ends of a model."""

    def __init__(self, trace: Trace, structure: Structure) -> None:
        self._trace = trace
        pieces = [piece for block in structure.blocks for piece in block.pieces]
        self._first = {trace.whole(piece.name) for piece in pieces if piece.is_first}
        last = {piece.name for piece in pieces if piece.is_last and piece.kind in MATRICES}
        # A table of tokens that tells them apart, too, is read long before the end.
        tables = {name: trace.axes[name] for name, use in trace.uses.items() if use.kind == "table"}
        last |= {name for name, spans in tables.items() if any(s and s.contracted and s.made for s in spans)}
        self._written = self._writers()
        # A table behind the last layer is its bias, place by place: haiku's, which jax2onnx repeats for each token.
        self._biases = {piece.name for piece in pieces if piece.is_last and piece.kind == "place"}
        self._classes = self._class_labels(last)

    def is_class(self, span: Span) -> bool:
        """Whether channels are the classes, or the tokens, that a model tells apart."""
        return self._trace.labels.root(span.labels) in self._classes

    def is_input(self, span: Span) -> bool:
        """Whether channels are those of the model's input, which nothing writes."""
        roots = self._trace.labels.roots(span.labels)
        root = int(roots[0])
        return span.name in self._first and root == span.start and root not in self._written

    def _writers(self, but: Collection[str] = ()) -> dict[int, int]:
        """By the first label of a channel group: how many weights write it, but for some that do not count."""
        written: dict[int, int] = {}
        for name, use in self._trace.uses.items():
            if name in but or (use.kind not in MATRICES and use.kind != "place"):
                continue
            for span in self._trace.axes[name]:
                if span is not None and span.made and span.role in ("out", "rows", "channel"):
                    root = self._trace.labels.root(span.labels)
                    written[root] = written.get(root, 0) + 1
        return written

    def _class_labels(self, last: set[str]) -> set[int]:
        """First labels of the channels that a model's outputs are, where one weight alone writes them."""
        found = set()
        written = self._writers(self._biases)
        for name in last:
            for span in self._trace.axes[name]:
                if span is not None and span.role in ("out", "rows") and span.made:
                    root = self._trace.labels.root(span.labels)
                    if written.get(root, 0) == 1:
                        found.add(root)
        return found
