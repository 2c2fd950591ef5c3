"""Work of an operator from its shapes: multiply-accumulates, floating-point operations, bytes.

The formulas are those of the operators' definitions (ONNX's operator reference; onnxruntime's ContribOperators.md
for its own). A multiply-accumulate is counted for products that are summed: convolutions, matrix products, recurrences,
attention, mixtures of experts. An operator that is not known has no count, rather than 0. The usual figures of networks
count so too (ResNet-50: 4.09 G at 224 × 224). onnx-tool counts the nodes of a file; what is timed here are the fused
nodes that onnxruntime makes of them, which it does not know.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from onnx_ghn.profiling.attention_counts import ATTENTION, attention_macs
from onnx_ghn.profiling.einsum_counts import einsum_macs
from onnx_ghn.profiling.known_operators import sums_no_products

__all__ = ["VIEWS", "flops", "macs", "moved_bytes"]

Shape = tuple[int, ...]
Attributes = Mapping[str, object]
Shapes = Sequence[Shape | None]  # None: an absent input, or an unknown shape

_CONV = {"Conv": 1, "FusedConv": 1, "NhwcConv": 1, "NhwcFusedConv": 1, "ConvInteger": 1, "QLinearConv": 3}
_CONV |= {"DeformConv": 1, "CausalConvWithState": 1}
_MATMUL = {"MatMul", "FusedMatMul", "TransposeMatMul", "FusedMatMulActivation", "MatMulInteger", "QLinearMatMul"}
_MATMUL |= {"MatMulIntegerToFloat", "DynamicQuantizeMatMul", "MatMulInteger16", "GemmFastGelu"}
_GEMM = ("Gemm", "FusedGemm", "QGemm")
_LINEAR_MODELS = ("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor")
#: Where mixtures of experts have the weights of their two or three layers, each (experts, rows, columns).
_EXPERTS = {"MoE": (2, 4, 6), "QMoE": (2, 5, 8)}
_RECURRENT = ("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM")
#: Operators that give another view of their input: onnxruntime reuses the buffer, or moves a few numbers.
VIEWS = frozenset({"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size"})
#: Operators that only move data.
_MOVES = {"Transpose", "Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Pad"}
_MOVES |= {"Constant", "ConstantOfShape", "Range", "Cast", "ReorderInput", "ReorderOutput", "DepthToSpace", "If"}
_MOVES |= {"SpaceToDepth", "ScatterND", "ScatterElements", "SequenceAt", "SplitToSequence", "ConcatFromSequence"}
_MOVES |= {"MemcpyToHost", "MemcpyFromHost", "Loop", "Scan", "Where", "EyeLike", "Resize", "Upsample"}
#: Operators that read as much of their first input as they give.
_PICKS = frozenset({"Gather", "GatherElements", "GatherND", "Slice", "EmbedLayerNormalization"})


def macs(op_type: str, attributes: Attributes, inputs: Shapes, outputs: Shapes) -> int | None:
    """Multiply-accumulates of one call: 0 for operators that are known to have none.

    None if the operator, or a shape that it needs, is unknown.
    """
    try:
        return _macs(op_type, attributes, inputs, outputs)
    except (IndexError, KeyError, _Unknown):
        return None


def flops(op_type: str, n_macs: int | None, inputs: Shapes, outputs: Shapes) -> int | None:
    """Operations of one call: two for a multiply-accumulate, else one for each element of the larger of first input and
    output; 0 if data only move.
    """
    if n_macs is None:
        return None
    if n_macs:
        return 2 * n_macs
    if op_type in VIEWS or op_type in _MOVES:
        return 0
    sizes = [_size(shape) for shape in (*inputs[:1], *outputs[:1]) if shape is not None]
    return max(sizes) if sizes else None


def moved_bytes(
    op_type: str, inputs: Sequence[tuple[Shape | None, int]], outputs: Sequence[tuple[Shape | None, int]]
) -> int | None:
    """Bytes that one call has to read and write at least, from (shape, bytes of an element) of inputs and outputs."""
    if op_type in VIEWS:
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
        text = equation.decode() if isinstance(equation, bytes) else str(equation)
        return _told(einsum_macs(text, [_known(shape) for shape in inputs]))
    if op_type in ATTENTION:
        return _told(attention_macs(op_type, attributes, inputs, outputs))
    if op_type in _EXPERTS:
        return _experts(op_type, attributes, inputs)
    if op_type in _LINEAR_MODELS:
        rows = _known(inputs[0])
        return (rows[0] if len(rows) > 1 else 1) * (
            _length(attributes.get("support_vectors")) + _length(attributes.get("coefficients"))
        )
    if op_type == "AffineGrid":  # a matrix of 2 × 3 or 3 × 4 for each point: (N, H, W, 2), (N, D, H, W, 3)
        grid = _known(outputs[0])
        return math.prod(grid) * (grid[-1] + 1)
    if sums_no_products(op_type):
        return 0
    raise _Unknown


def _told(count: int | None) -> int:
    if count is None:
        raise _Unknown
    return count


def _length(values: object) -> int:
    return len(values) if isinstance(values, list | tuple) else 0


def _experts(op_type: str, attributes: Attributes, inputs: Shapes) -> int:
    """Each row goes to the `k` best experts. QMoE stores several weights in a byte."""
    n_rows = _known(inputs[1])[0]  # of the router's table: (rows, experts)
    n_best = attributes.get("k", 1)
    bits = attributes.get("expert_weight_bits", 4) if op_type == "QMoE" else 8
    assert isinstance(n_best, int)
    assert isinstance(bits, int)
    layers = [inputs[index] for index in _EXPERTS[op_type] if index < len(inputs)]
    of_a_row = sum(math.prod(layer[1:]) for layer in layers if layer is not None)
    _known(layers[0])
    return n_rows * n_best * of_a_row * 8 // bits
