"""The flat graph: values and operators of a model without functions or subgraphs, read-only once it is made."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy.typing as npt

from onnx_ghn.errors import GraphError
from onnx_ghn.graph.layout import Layout

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["FLOAT_TYPES", "QUANTISED_TYPES", "FlatGraph", "Leaf", "Op", "Tensor"]

FLOAT_TYPES = frozenset({"FLOAT", "DOUBLE", "FLOAT16", "BFLOAT16"})
#: In which weights are stored that were quantised; indices and shapes have wider types.
QUANTISED_TYPES = frozenset(f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (2, 4, 8)) | {
    "FLOAT8E4M3FN",
    "FLOAT8E4M3FNUZ",
    "FLOAT8E5M2",
    "FLOAT8E5M2FNUZ",
    "FLOAT8E8M0",
    "FLOAT4E2M1",
}


@dataclasses.dataclass(eq=False, slots=True)
class Tensor:
    """A value of the flat graph.

    Attributes:
        name: of the ir.Value.
        shape: as far as the file declares it.
        dtype: name of the ir.DataType, "" where the file does not say.
        producer: the operator that makes it, None for inputs and stored tensors.
        stored: the stored tensor that it is, if any.
        is_const: depends on stored tensors alone.
        consumers: operators that read it.
        leaves: memory of `weights.leaves`: constants are shared, paths multiply.
        is_folded, folded: memory of `folding.array_of`.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: str = ""
    producer: Op | None = None
    stored: StoredTensor | None = None
    is_const: bool = False
    consumers: list[Op] = dataclasses.field(default_factory=list)
    leaves: list[Leaf] | None = None
    is_folded: bool = False
    folded: npt.NDArray[Any] | None = None

    def __repr__(self) -> str:
        return f"Tensor({self.name!r}, {self.shape}, {'const' if self.is_const else 'data'})"

    def made_of(self) -> Iterator[Tensor]:
        """This value and all that it is computed from, each once, from the value backwards."""
        pending, seen = [self], {self}
        while pending:
            value = pending.pop()
            yield value
            for given in value.producer.inputs if value.producer is not None else ():
                if given is not None and given not in seen:
                    seen.add(given)
                    pending.append(given)


@dataclasses.dataclass(eq=False, slots=True)
class Op:
    """An operator of the flat graph.

    Attributes:
        body: If, Loop or Scan, where it stands in the body of one; "" in the main graph and the functions it calls.
    """

    op_type: str
    domain: str
    name: str
    inputs: list[Tensor | None]
    outputs: list[Tensor]
    attributes: Mapping[str, ir.Attr] = dataclasses.field(default_factory=dict)
    body: str = ""

    def __post_init__(self) -> None:
        if self.domain == "ai.onnx":
            self.domain = ""
        for tensor in self.outputs:
            tensor.producer = self
        for used in self.inputs:
            if used is not None:
                used.consumers.append(self)

    def __repr__(self) -> str:
        return f"Op({self.op_type}, {self.name!r})"

    @overload
    def attr(self, name: str, default: int) -> int: ...
    @overload
    def attr(self, name: str, default: str) -> str: ...
    @overload
    def attr(self, name: str, default: list[int]) -> list[int]: ...
    @overload
    def attr(self, name: str) -> list[int] | None: ...
    def attr(self, name: str, default: int | str | list[int] | None = None) -> int | str | list[int] | None:
        """Value of an attribute, `default` where it is absent. Without a default it is a list of whole numbers.

        Raises:
            GraphError: the attribute is of another type.
        """
        attribute = self.attributes.get(name)
        if attribute is None:
            return default
        value = attribute.value
        if isinstance(default, int) and isinstance(value, int | float):
            return int(value)
        if isinstance(default, str) and isinstance(value, str):
            return value
        is_list = isinstance(value, tuple | list) and all(isinstance(item, int) for item in value)
        if (default is None or isinstance(default, list)) and is_list:
            return list(value)
        raise GraphError(
            f"attribute {name!r} of {self.op_type} node {self.name!r} is of another type than "
            f"{[0] if default is None else default!r}; check the model with onnx.checker"
        )

    def input(self, index: int) -> Tensor | None:
        """The input at that position, None where it is omitted."""
        return self.inputs[index] if index < len(self.inputs) else None


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A stored tensor on the way to an operator's input.

    Attributes:
        tensor: the stored tensor.
        layout: from the stored tensor to the value that the operator reads.
        whole: false where that value is a piece of the tensor, or one of several tensors joined.
        divisor: the value enters through a square root or a reciprocal (a variance).
        dequantize: the DequantizeLinear operator in between, if any.
        scaled_axis: the axis of the stored tensor along which its scales lie, where each channel has one; None where
            these channels are no axis of it.
        part: how it enters arithmetic on constants: as a "factor" of a matrix product or the "bias" behind it, as the
            "gain" or the "shift" of a normalisation, as the "argument" of a function that bends it (the logarithm of a
            scale), or as the "mask" that takes elements out of a weight; "" for anything else.
        multiplier: the number that it is multiplied by on the way, as weights are that learn at an equalised rate
            (Karras et al. 2018); None where arithmetic with other tensors lies between.
    """

    tensor: Tensor
    layout: Layout
    whole: bool = True
    divisor: bool = False
    dequantize: Op | None = None
    scaled_axis: int | None = None
    part: Literal["", "factor", "bias", "gain", "shift", "argument", "mask"] = ""
    multiplier: float | None = 1.0


@dataclasses.dataclass
class FlatGraph:
    """All operators in topological order, the graph's data inputs and its outputs.

    Attributes:
        stored: what any operator, output or body reads of the stored tensors, by stored name.
        links: (from, to) of values that depend on another without an operator between them: what comes out of an If or
            a Loop on its condition, and the next turn's states on this turn's.
    """

    ops: list[Op]
    inputs: list[Tensor]
    outputs: list[Tensor]
    name: str
    stored: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    links: list[tuple[Tensor, Tensor]] = dataclasses.field(default_factory=list)
