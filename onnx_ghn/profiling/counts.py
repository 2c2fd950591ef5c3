"""Work of an operator from its shapes: multiply-accumulates, floating-point operations, bytes.

The formulas are those of the operators' definitions (ONNX's operator reference; onnxruntime's ContribOperators.md
for its own). A multiply-accumulate is counted for products that are summed: convolutions, matrix products, recurrences,
attention. The usual figures of networks count so too (ResNet-50: 4.09 G at 224 × 224). onnx-tool counts the nodes
of a file; what is timed here are the fused nodes that onnxruntime makes of them, which it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["flops", "macs", "moved_bytes"]

Shape = tuple[int, ...]
Attributes = Mapping[str, object]
Shapes = Sequence[Shape | None]  # None: an absent input, or an unknown shape

_CONV = {"Conv": 1, "FusedConv": 1, "NhwcConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_MATMUL = {"MatMul", "FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", "MatMulInteger", "QLinearMatMul"}
_MATMUL |= {"MatMulIntegerToFloat", "DynamicQuantizeMatMul"}
_GEMM = ("Gemm", "FusedGemm", "QGemm")
_RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
#: Operators that give another view of their input: onnxruntime reuses the buffer, or moves a few numbers.
_VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size"})
#: Operators that only move data.
_MOVES = {"Transpose", "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Pad"}
_MOVES |= {"Constant", "ConstantOfShape", "Range", "Cast", "ReorderInput", "ReorderOutput", "DepthToSpace", "If"}
_MOVES |= {"SpaceToDepth", "ScatterND", "ScatterElements", "SequenceAt", "SplitToSequence", "ConcatFromSequence"}
_MOVES |= {"MemcpyToHost", "MemcpyFromHost", "Loop", "Scan", "Where", "EyeLike", "Resize", "Upsample"}
#: Operators that read as much of their first input as they give.
_PICKS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "EmbedLayerNormalization"})


def macs(op_type: str, attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int | None:
    """Multiply-accumulates of one call: 0 for operators without any, None if a shape that it needs is unknown."""
    try:
        return _macs(op_type, attributes, inputs, outputs)
    except (IndexError, _Unknown):
        return None


def flops(op_type: str, n_macs: int | None, inputs: Shapes, outputs: Shapes) -> int | None:
    """Operations of one call: two for a multiply-accumulate, else one for each element of the larger of first input and
    output; 0 if data only move.
    """
    if n_macs is None:
        return None
    if n_macs:
        return 2 * n_macs
    if op_type in _VIEWS or op_type in _MOVES:
        return 0
    sizes = [_size(shape) for shape in (*inputs[:1], *outputs[:1]) if shape is not None]
    return max(sizes) if sizes else None


def moved_bytes(
    op_type: str, inputs: Sequence[tuple[Shape | None, int]], outputs: Sequence[tuple[Shape | None, int]]
) -> int | None:
    """Bytes that one call has to read and write at least, from (shape, bytes of an element) of inputs and outputs."""
    if op_type in _VIEWS:
        return 0
    if any(shape is None for shape, _ in (*inputs, *outputs)):
        return None
    written = sum(_size(shape) * size for shape, size in outputs)
    if op_type in _PICKS:
        inputs = [*((shape, size) for shape, size in outputs[:1]), *inputs[1:]]
    return written + sum(_size(shape) * size for shape, size in inputs)


class _Unknown(Exception):
    pass


def _size(shape: Shape | None) -> int:
    return math.prod(_known(shape))


def _known(shape: Shape | None) -> Shape:
    if shape is None:
        raise _Unknown
    return shape


def _macs(op_type: str, attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int:
    if op_type in _CONV:
        # Each output sums over the kernel and the channels of its group, which the weight's shape says.
        return _size(outputs[0]) * _size(_known(inputs[_CONV[op_type]])[1:])
    if op_type == "ConvTranspose":
        return _size(inputs[0]) * _size(_known(inputs[1])[1:])
    if op_type in _MATMUL:
        a = _known(inputs[0])
        return _size(outputs[0]) * (a[-2] if attributes.get("transA") and len(a) > 1 else a[-1])
    if op_type in _GEMM:
        return _size(outputs[0]) * _known(inputs[0])[0 if attributes.get("transA") else 1]
    if op_type in ("MatMulNBits", "MatMulBnb4"):
        width = attributes["K"]
        assert isinstance(width, int)
        return _size(outputs[0]) * width
    if op_type in _RECURRENT:
        # W is (directions, gates × hidden, input), R (directions, gates × hidden, hidden); X begins (sequence, batch).
        return math.prod(_known(inputs[0])[:2]) * (_size(inputs[1]) + _size(inputs[2]))
    if op_type == "Einsum":
        equation = attributes["equation"]
        return _einsum(equation.decode() if isinstance(equation, bytes) else str(equation), inputs)
    if op_type in ("Attention", "MultiHeadAttention", "GroupQueryAttention"):
        return _attention(op_type, inputs)
    return 0


def _einsum(equation: str, inputs: Shapes) -> int:
    terms = equation.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=True):
        if "..." in term or len(term) != len(_known(shape)):
            raise _Unknown
        sizes.update(zip(term, _known(shape), strict=True))
    return math.prod(sizes.values()) if len(terms) > 1 else 0


def _attention(op_type: str, inputs: Shapes) -> int:
    first = _known(inputs[0])
    if op_type == "Attention" and len(inputs) > 1 and inputs[1] is not None and len(inputs[1]) == 2 and len(first) == 3:
        # com.microsoft's: X (batch, n, width) times the weights of Q, K and V together, then attention over n.
        batch, n, _ = first
        inner = inputs[1][1] // 3
        return batch * n * _size(inputs[1]) + 2 * batch * n * n * inner
    # (batch, n, heads × size) or (batch, heads, n, size); keys may be more.
    key = _known(inputs[1])
    n_keys = key[1] if len(key) == 3 else key[-2]
    return 2 * _size(first) * n_keys
