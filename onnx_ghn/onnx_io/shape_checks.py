"""Tensors that no runtime could use: shapes of weights against each other and against what they are applied to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import onnx_ir as ir

from onnx_ghn.errors import GraphError
from onnx_ghn.onnx_io.inference import Shape, known_shapes
from onnx_ghn.onnx_io.stored import StoredTensor

__all__ = ["check_shapes"]

_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
_BROADCAST_SINCE = 7  # opset from which operators broadcast as numpy does


def check_shapes(model: ir.Model, stored: dict[str, StoredTensor]) -> None:
    """Check the operators of the main graph that have weights. What is not known (free sizes) is not judged.

    Raises:
        GraphError: a tensor that does not fit, with the node, its operator, the tensor and the shapes.
    """
    shapes = known_shapes(model, stored)
    opset = model.opset_imports.get("", 1)
    for node in model.graph:
        check = _CHECKS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if check is None:
            continue
        for problem in check(_Operands(node, shapes, opset)):
            raise GraphError(
                f"{node.op_type} node {node.name or node.outputs[0].name!r}: {problem}; no runtime takes that: "
                "correct the tensor, or export the model again"
            )


class _Operands:
    """A node, and what is known of its inputs."""

    def __init__(self, node: ir.Node, shapes: dict[str, Shape], opset: int) -> None:
        self.node = node
        self.opset = opset
        self._shapes = shapes

    def shape(self, index: int) -> Shape | None:
        """Of an input; None where it is absent or unknown."""
        value = self.node.inputs[index] if index < len(self.node.inputs) else None
        return self._shapes.get(value.name or "") if value is not None else None

    def told(self, index: int) -> str:
        """An input as messages name it."""
        value, shape = self.node.inputs[index], self.shape(index) or ()
        sizes = ", ".join("?" if size is None else str(size) for size in shape)
        return f"{value.name if value is not None else ''!r} of shape [{sizes}]"

    def number(self, name: str, default: int) -> int:
        """An integer attribute."""
        attribute = self.node.attributes.get(name)
        return attribute.as_int() if attribute is not None and attribute.type == ir.AttributeType.INT else default

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """An attribute that lists integers."""
        attribute = self.node.attributes.get(name)
        return tuple(attribute.as_ints()) if attribute is not None and attribute.type == ir.AttributeType.INTS else None

    def is_vector(self, index: int, length: int | None, of: str) -> Iterator[str]:
        """The problem where an input is no vector of a known length."""
        shape = self.shape(index)
        if shape is not None and (len(shape) != 1 or _differ(shape[0], length)):
            yield f"{self.told(index)} should have {'one dimension' if length is None else length}, one number for {of}"


def _differ(a: int | None, b: int | None) -> bool:
    return a is not None and b is not None and a != b


def _convolution(op: _Operands) -> Iterator[str]:
    data, weight, groups = op.shape(0), op.shape(1), op.number("group", 1)
    if weight is None:
        return
    if len(weight) < 3 or (data is not None and len(weight) != len(data)):
        yield f"weight {op.told(1)} has another rank than" + (f" input {op.told(0)}" if data else " a kernel")
        return
    kernel = op.numbers("kernel_shape")
    if kernel is not None and (len(kernel) != len(weight) - 2 or any(map(_differ, kernel, weight[2:]))):
        yield f"weight {op.told(1)} is no kernel of {list(kernel)}"
    transposed = op.node.op_type == "ConvTranspose"
    outputs, inputs = (weight[1], weight[0]) if transposed else (weight[0], weight[1])
    if transposed:
        outputs = None if outputs is None else outputs * groups
    elif inputs is not None:
        inputs *= groups
    if data is not None and _differ(inputs, data[1]):
        yield f"weight {op.told(1)} takes {inputs} channels, and its input {op.told(0)} has {data[1]}"
    yield from op.is_vector(2, outputs, f"each of the {outputs} output channels of weight {op.told(1)}")


def _gemm(op: _Operands) -> Iterator[str]:
    left, right, added = op.shape(0), op.shape(1), op.shape(2)
    if left is None or right is None:
        return
    for index, shape in enumerate((left, right)):
        if len(shape) != 2:
            yield f"{op.told(index)} is no matrix"
            return
    rows, inner = left[::-1] if op.number("transA", 0) else left
    wanted, columns = right[::-1] if op.number("transB", 0) else right
    if _differ(inner, wanted):
        yield f"{op.told(0)} cannot be multiplied with {op.told(1)}: {inner} and {wanted} differ"
    if added is not None and op.opset >= _BROADCAST_SINCE and not _broadcasts(added, (rows, columns)):
        yield f"{op.told(2)} cannot be added to a product of {columns} columns ({op.told(1)})"


def _matmul(op: _Operands) -> Iterator[str]:
    left, right = op.shape(0), op.shape(1)
    if not left or not right:
        return
    wanted = right[-2] if len(right) > 1 else right[0]
    if _differ(left[-1], wanted):
        yield f"{op.told(0)} cannot be multiplied with {op.told(1)}: {left[-1]} and {wanted} differ"


def _channels(op: _Operands) -> Iterator[str]:
    """BatchNormalization and InstanceNormalization: a number for each channel."""
    data = op.shape(0)
    if op.number("spatial", 1) != 1:  # opsets 7 and 8: one for each position
        return
    length = data[1] if data is not None and len(data) > 1 else None
    for index in range(1, len(op.node.inputs)):
        scale = op.shape(1)
        wanted = length if length is not None or not scale else scale[0]
        yield from op.is_vector(index, wanted, f"each channel of {op.told(0)}")


def _groups(op: _Operands) -> Iterator[str]:
    data, groups = op.shape(0), op.number("num_groups", 0)
    channels = data[1] if data is not None and len(data) > 1 else None
    for index in (1, 2):
        shape = op.shape(index)
        if shape and channels is not None and (len(shape) != 1 or shape[0] not in (None, groups, channels)):
            yield f"{op.told(index)} should have {channels}, one number for each channel of {op.told(0)}"


def _last_axes(op: _Operands) -> Iterator[str]:
    """LayerNormalization and RMSNormalization: scale and shift of the axes that are normalised."""
    data, axis = op.shape(0), op.number("axis", -1)
    if data is None or not -len(data) <= axis < len(data):
        return
    for index in range(1, len(op.node.inputs)):
        shape = op.shape(index)
        if shape is not None and not _broadcasts(shape, data):
            wanted = [size for size in data[axis:] if size is not None]
            yield f"{op.told(index)} should be of shape {wanted}, as the axes of {op.told(0)} that are normalised"


def _slopes(op: _Operands) -> Iterator[str]:
    data, slopes = op.shape(0), op.shape(1)
    if data is None or slopes is None or op.opset < _BROADCAST_SINCE:
        return
    # Some runtimes read a vector as one slope for each channel.
    if not _broadcasts(slopes, data) and not (len(slopes) == 1 and len(data) > 1 and not _differ(slopes[0], data[1])):
        yield f"slopes {op.told(1)} cannot be broadcast to {op.told(0)}"


def _recurrent(op: _Operands) -> Iterator[str]:
    data, weight, recurrence = op.shape(0), op.shape(1), op.shape(2)
    gates = _GATES[op.node.op_type]
    for index, rank in ((1, 3), (2, 3), (3, 2)):
        shape = op.shape(index)
        if shape is not None and len(shape) != rank:
            yield f"{op.told(index)} should have {rank} dimensions"
            return
    if weight is None or recurrence is None:
        return
    hidden = recurrence[2]
    rows = None if hidden is None else gates * hidden
    if data and _differ(weight[2], data[-1]):
        yield f"weights {op.told(1)} take {weight[2]} features, and the input {op.told(0)} has {data[-1]}"
    for index, shape in ((1, weight), (2, recurrence)):
        if _differ(shape[1], rows):
            yield f"{op.told(index)} should have {rows} rows: {gates} × the {hidden} hidden features of {op.told(2)}"
    bias = op.shape(3)
    if bias is not None and rows is not None and _differ(bias[1], 2 * rows):
        yield f"biases {op.told(3)} should be {2 * rows}, twice the rows of {op.told(1)}"


def _arithmetic(op: _Operands) -> Iterator[str]:
    left, right = op.shape(0), op.shape(1)
    if left is None or right is None or op.opset < _BROADCAST_SINCE:
        return
    if any(_differ(a, b) and 1 not in (a, b) for a, b in zip(left[::-1], right[::-1], strict=False)):
        yield f"{op.told(0)} and {op.told(1)} cannot be broadcast"


def _broadcasts(shape: Shape, target: Shape) -> bool:
    """Whether a tensor of a shape can be stretched to another."""
    if len(shape) > len(target) and math.prod(size or 0 for size in shape[: len(shape) - len(target)]) != 1:
        return False
    return not any(size != 1 and _differ(size, other) for size, other in zip(shape[::-1], target[::-1], strict=False))


_CHECKS: dict[str, Callable[[_Operands], Iterator[str]]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "BatchNormalization": _channels,
    "InstanceNormalization": _channels,
    "GroupNormalization": _groups,
    "LayerNormalization": _last_axes,
    "RMSNormalization": _last_axes,
    "PRelu": _slopes,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
}
