"""Convolutions that hold a folded batch norm, found by structure and by statistics of their values, never by names.

γ / σ · (w * x) + (β − μ · γ / σ) is a convolution again: each output channel of its weight has a scale of its own, and
its bias is as large as what the batch norm shifted by; a bias that was trained itself stays small beside the weight.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.onnx_io.tensors import AbsentTensor

__all__ = ["find_folded", "stored_tensor"]

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
_NORMS = frozenset(
    {"LayerNormalization", "GroupNormalization", "InstanceNormalization", "RMSNormalization", "LRN", "LpNormalization",
     "SimplifiedLayerNormalization", "SkipLayerNormalization", "MeanVarianceNormalization"}
)  # fmt: skip
_NONLINEAR = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Elu", "Selu", "Celu", "Clip", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
     "Softplus", "Mish", "Gelu", "Swish", "Erf", "QuickGelu", "ThresholdedRelu", "Softsign"}
)  # fmt: skip
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div", "Sum"})
_RESHAPED = frozenset({"Reshape", "Unsqueeze", "Squeeze", "Cast", "Identity"})
_CONSTANT_ARITHMETIC = _ARITHMETIC | _RESHAPED | {"Sqrt", "Reciprocal", "Pow", "Neg"}
_MAX_CONSTANT_STEPS = 10  # β − μ · γ/√(σ² + ε), each reshaped
_PASSING = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "Pad", "Identity", "Cast"})
_GLOBAL_POOLS = frozenset({"GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax"})
_MIN_CONVOLUTIONS = 2  # one alone, without batch norm, is nothing unusual
_MANY = 8  # convolutions, where other norms are in the model, too
_AMONG_BATCH_NORMS = 0.25  # as many as a quarter of the batch norms that are left
# (spread of the channels' norms) × (bias / norm), the median over the layers. Nets that were trained without batch
# norms have up to 0.06 (SqueezeNet 1.0 of ImageNet 0.01, the three of MTCNN 0.03 to 0.06); fused ones 0.1 to 0.6
# (YOLOv8 0.2, the detector of PP-OCRv4 0.24). Residual sums are hardly ever trained without a norm.
_THRESHOLD, _RESIDUAL_THRESHOLD = 0.08, 0.02
_FEW_THRESHOLD = 0.15  # of less than `_MANY` convolutions: the median of few is uncertain
_SHIFTED = 0.15  # bias / norm alone: batch norms whose statistics were measured, and which were not trained
_OUTLIER = 0.05  # of the median: a convolution of its own among folded ones
_SAMPLE = 1024  # elements of a kernel: then its norm is within two percent
_DEAD = 1e-6  # of the largest norm: channels that training gave up


def find_folded(model: ir.Model) -> list[ir.Node]:
    """Convolutions of the main graph that hold a folded batch norm, as far as a file shows it.

    A convolution may be one of them if an activation, a sum, a pool or another convolution reads it (no norm, no
    product with a vector, no concatenation), and if it does not weigh pooled channels (squeeze and excitation). They
    are, if

    - their values are those of folded batch norms (see above); or
    - they have no bias, or one of zeros (batch norms that were never trained), and either the model has residual sums,
      or its other layers do have biases: people leave them out where a norm follows. A net whose biases are all zero
      was initialised so.

    Where a model holds norms, its values have to be clearer, or the convolutions without bias to be activated at once.
    """
    convolutions = [node for node in model.graph if node.op_type in _CONVOLUTIONS and _weight(node) is not None]
    followed = [node for node in convolutions if _is_followed(node) and not _weighs_pooled(node)]
    if len(convolutions) < _MIN_CONVOLUTIONS or len(followed) < _MIN_CONVOLUTIONS:
        return []
    types = [node.op_type for node in model.graph]
    n_batch_norms = types.count("BatchNormalization")
    if n_batch_norms:
        return _between_batch_norms(followed, n_batch_norms)
    residual = _has_residual_sums(model)
    without = [node for node in followed if not _has_bias(node)]
    if _NORMS & set(types) or {"ReduceMean", "Sqrt"} <= set(types):
        enough = max(_MANY, len(convolutions) // 2)
        return _looks_folded(followed, _THRESHOLD) if len(followed) >= enough else []
    if 2 * len(without) >= len(followed):
        return without if residual or _has_biases_elsewhere(model, set(without)) else []
    if residual:
        return _looks_folded(followed, _RESIDUAL_THRESHOLD) or _looks_shifted(followed)
    return _looks_folded(followed, _THRESHOLD if len(followed) >= _MANY else _FEW_THRESHOLD)


def _between_batch_norms(followed: Sequence[ir.Node], n_batch_norms: int) -> list[ir.Node]:
    """Of a net whose batch norms could be folded in part only (those before an activation stay)."""
    activated = [
        node for node in followed if all(reader.op_type in _NONLINEAR | {"Mul"} for reader in _readers(node) or ())
    ]
    without = [node for node in activated if not _has_bias(node) and len(_channel_norms(node)) > 1]
    if len(without) >= max(_MIN_CONVOLUTIONS, _AMONG_BATCH_NORMS * n_batch_norms):
        return without
    biased = [node for node in activated if _has_bias(node)]
    enough = max(_MANY, _AMONG_BATCH_NORMS * n_batch_norms)
    return _looks_folded(biased, _THRESHOLD) if len(biased) >= enough else []


def stored_tensor(value: ir.Value | None) -> ir.TensorProtocol | None:
    """What a value is, stored as an initializer or by a Constant node, behind Identity nodes or not."""
    if value is None:
        return None
    node = value.producer()
    if node is not None and node.op_type == "Identity" and not node.domain:
        return stored_tensor(node.inputs[0])
    if node is None:
        return value.const_value if value.is_initializer() else None
    attribute = node.attributes.get("value") if node.op_type == "Constant" and not node.domain else None
    if attribute is None or attribute.type != ir.AttributeType.TENSOR:
        return None
    return attribute_tensor(attribute)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if len(node.inputs) > index else None


def _weight(node: ir.Node) -> ir.TensorProtocol | None:
    """The stored float weight; None where it is computed, quantised or has no kernel."""
    tensor = stored_tensor(_input(node, 1))
    if tensor is None or tensor.dtype not in _FLOATS or len(tensor.shape) < 3 or tensor.size == 0:
        return None
    return tensor


def _values(tensor: ir.TensorProtocol | None) -> Array | None:
    """Values in float64; None where there are none, or their data file is lost."""
    if tensor is None or isinstance(tensor, AbsentTensor) or tensor.dtype not in _FLOATS:
        return None
    return np.asarray(tensor.numpy()).astype(np.float64)


def _has_bias(node: ir.Node) -> bool:
    bias = _input(node, 2)
    if bias is None:
        return False
    values = _values(stored_tensor(bias))
    return values is None or bool(values.any())


def _is_followed(node: ir.Node) -> bool:
    """Whether all that reads a convolution's result is an activation, a sum, a pool or another convolution."""
    readers = _readers(node)
    if not readers:
        return False
    return all(
        reader.op_type in (*_NONLINEAR, *_PASSING, *_CONVOLUTIONS)
        or (reader.op_type in _ARITHMETIC and not _has_vector(reader.inputs))
        for reader in readers
    )


def _readers(node: ir.Node) -> list[ir.Node] | None:
    """What reads a node's result, as it is or in another type; None where that is an output of the model."""
    values, readers = [node.outputs[0]], list[ir.Node]()
    while values:
        value = values.pop()
        if value.is_graph_output():
            return None
        for use in value.uses():
            if use.node.op_type in ("Identity", "Cast") and not use.node.domain:
                values.append(use.node.outputs[0])
            else:
                readers.append(use.node)
    return readers


def _has_vector(inputs: Iterable[ir.Value | None]) -> bool:
    """Whether a stored tensor of several elements is among them, or one computed from it: a scale or a shift."""
    return any(_is_vector(value, _MAX_CONSTANT_STEPS) for value in inputs)


def _is_vector(value: ir.Value | None, steps: int) -> bool:
    tensor = stored_tensor(value)
    if tensor is not None:
        return bool(tensor.size > 1)
    node = value.producer() if value is not None else None
    if node is None or steps == 0 or node.op_type not in _CONSTANT_ARITHMETIC:
        return False
    data = node.inputs[:1] if node.op_type in _RESHAPED else node.inputs
    return any(_is_vector(given, steps - 1) for given in data) and all(_is_stored(given, steps - 1) for given in data)


def _is_stored(value: ir.Value | None, steps: int) -> bool:
    """Whether a value is computed from stored tensors alone, by a few sums, products and roots."""
    node = value.producer() if value is not None else None
    if stored_tensor(value) is not None:
        return True
    if node is None or steps == 0 or node.op_type not in _CONSTANT_ARITHMETIC:
        return False
    data = node.inputs[:1] if node.op_type in _RESHAPED else node.inputs
    return all(_is_stored(given, steps - 1) for given in data)


def _weighs_pooled(node: ir.Node) -> bool:
    """Whether the convolution's input is one value a channel: a mean over the map, or what a layer made of that."""
    return _is_pooled(_input(node, 0), 8)  # mean, squeeze, activation (of three operators at most), excite


def _is_pooled(value: ir.Value | None, depth: int) -> bool:
    before = value.producer() if value is not None else None
    if before is None or depth == 0:
        return False
    if before.op_type in _GLOBAL_POOLS:
        return True
    if before.op_type in _CONVOLUTIONS:
        kernel = stored_tensor(_input(before, 1))
        return (kernel is None or all(size == 1 for size in kernel.shape.numpy()[2:])) and _is_pooled(
            _input(before, 0), depth - 1
        )
    if before.op_type not in _NONLINEAR | _ARITHMETIC | {"Identity", "Reshape"}:
        return False
    computed = [given for given in before.inputs[:2] if given is not None and stored_tensor(given) is None]
    return bool(computed) and all(_is_pooled(given, depth - 1) for given in computed)


def _has_residual_sums(model: ir.Model) -> bool:
    """An Add of two computed values, one of them a convolution's, activated or not."""
    for node in model.graph:
        if node.op_type != "Add":
            continue
        producers = [_before_activation(value) for value in node.inputs if stored_tensor(value) is None]
        if len(producers) == 2 and any(p is not None and p.op_type in _CONVOLUTIONS for p in producers):
            return True
    return False


def _before_activation(value: ir.Value | None) -> ir.Node | None:
    node = value.producer() if value is not None else None
    for _ in range(3):  # x · σ(x) is two operators
        if node is None or node.op_type not in _NONLINEAR | {"Mul"}:
            break
        first = _input(node, 0)
        node = first.producer() if first is not None else None
    return node


def _has_biases_elsewhere(model: ir.Model, without: set[ir.Node]) -> bool:
    """Whether a linear layer or another convolution has a bias that is not zero."""
    for node in model.graph:
        if node.op_type in ("Gemm", *_CONVOLUTIONS):
            bias = stored_tensor(_input(node, 2)) if node not in without else None
        elif node.op_type == "Add" and any(_is_product(value) for value in node.inputs):
            bias = next((tensor for tensor in map(stored_tensor, node.inputs) if tensor is not None), None)
        else:
            continue
        values = _values(bias)
        if values is not None and values.any():
            return True
    return False


def _is_product(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    return node is not None and node.op_type == "MatMul"


def _channel_norms(node: ir.Node) -> Array:
    """The Euclidean norm of each output channel's kernel, of many elements estimated; empty where the data are lost."""
    tensor = _weight(node)
    if tensor is None or isinstance(tensor, AbsentTensor):
        return np.empty(0)
    values = np.asarray(tensor.numpy())
    if node.op_type == "ConvTranspose":  # in × out/groups × kernel: groups share what is told apart here
        values = np.moveaxis(values, 1, 0)
    rows = values.reshape(len(values), -1)
    sample = rows[:, :_SAMPLE].astype(np.float32)
    norms: Array = np.sqrt(np.einsum("ij,ij->i", sample, sample) * (rows.shape[1] / max(sample.shape[1], 1)))
    return norms.astype(np.float64)


def _looks_folded(nodes: Sequence[ir.Node], threshold: float) -> list[ir.Node]:
    """The convolutions whose values are those of folded batch norms; none where most have others."""
    scores = {node: score for node in nodes if (score := _score(node)) is not None}
    middle = float(np.median(list(scores.values()))) if scores else 0.0
    if middle < threshold:
        return []
    return [node for node in nodes if scores.get(node, middle) >= _OUTLIER * middle]


def _looks_shifted(nodes: Sequence[ir.Node]) -> list[ir.Node]:
    """The convolutions where most of them have biases as large as running means make them."""
    shares = [share for node in nodes if (share := _spread_and_bias(node)[1]) is not None]
    return list(nodes) if shares and np.median(shares) >= _SHIFTED else []


def _score(node: ir.Node) -> float | None:
    """(spread of the channels' norms) × (bias / norm); None where there is no bias, or values are lost."""
    spread, bias = _spread_and_bias(node)
    return None if bias is None else spread * bias


def _spread_and_bias(node: ir.Node) -> tuple[float, float | None]:
    """The spread of the logarithms of the channels' norms, and the bias's share of their median."""
    norms, bias = _channel_norms(node), _values(stored_tensor(_input(node, 2)))
    if bias is None or not len(norms) or not np.isfinite(norms).all() or not norms.max():
        return 0.0, None
    norms = norms[norms > _DEAD * norms.max()]
    low, high = np.quantile(np.log(norms), [0.25, 0.75])
    spread = (high - low) / 1.349  # the standard deviation of a normal distribution, whatever the outliers are
    return float(spread), float(np.sqrt((bias**2).mean()) / np.median(norms))
