"""The scale of values estimated without running a model: variance propagation over its operators.

The scale of a value is its root mean square. A linear operator multiplies it by √(fan in) × the weight's own; a norm
resets it to its γ's; squares of summands add up (He et al., arXiv 1502.01852, section 2.2). Estimates are meant to tell
whether outputs lie orders of magnitude apart, no more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.onnx_io.attributes import attribute_tensor
from onnx_ghn.onnx_io.tensors import AbsentTensor
from onnx_ghn.prediction.fallback import Distribution
from onnx_ghn.prediction.tensor_scales import Rows, TensorScales
from onnx_ghn.prediction.trials import Trial

if TYPE_CHECKING:
    import onnx_ir as ir

    from onnx_ghn.passes.linear_operators import Linear
    from onnx_ghn.passes.output_scales import CorrectScales

__all__ = ["Propagation"]

_PASSES = frozenset(
    {"Identity", "Cast", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Dropout", "Pad",
     "Slice", "Split", "Resize", "Upsample", "DepthToSpace", "SpaceToDepth", "Neg", "Abs", "Relu6"}
)  # fmt: skip
_CENTRING = frozenset({"BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization"})
_UNCENTRED = frozenset({"RMSNormalization", "SimplifiedLayerNormalization"})
#: Output scale over input scale for centred normal inputs, of what behaves as ReLU does.
_GAINS = {
    "Relu": 0.707, "LeakyRelu": 0.707, "PRelu": 0.73, "Elu": 0.8, "Selu": 1.0, "Celu": 0.8, "Gelu": 0.65, "Swish": 0.6,
    "HardSwish": 0.6, "Mish": 0.65, "Clip": 0.707, "Softplus": 0.95, "ThresholdedRelu": 0.6,
}  # fmt: skip
_POOLS = {"MaxPool": 1.3, "GlobalMaxPool": 2.0, "ReduceMax": 2.0}
_MEANS = frozenset({"AveragePool", "GlobalAveragePool", "ReduceMean"})
_MEAN_GAIN = 0.6  # mean over root mean square of half a normal distribution; a little more over few elements
_BOUNDED = {"Sigmoid": 0.55, "HardSigmoid": 0.55, "Softmax": 0.3, "LSTM": 0.4, "GRU": 0.4, "RNN": 0.5, "Softsign": 0.5}
_SIZES = frozenset({"Shape", "Size", "Range", "NonZero"})
_COMMON = 0.32  # share of the mean in the mean square of half a normal distribution
_TINY = 1e-30


@dataclasses.dataclass(frozen=True)
class _Scale:
    """What is known of a value: its root mean square, and whether its mean is about zero."""

    size: float
    centred: bool = True


class Propagation:
    """Estimates in the place of `Trials`: the same questions, and nothing is run.

    Args:
        drawn: what tensors are drawn from, by stored name, where that is known: they need not be drawn.
        scales: of stored tensors, where others ask for those of the same ones.

    Attributes:
        scales: of the tensors that were met.
        only_lowers: scale no weight by more than 1.
        unknown: operators of which it is not known what they do to a scale, where one was met.
    """

    def __init__(self, drawn: Mapping[str, Distribution] | None = None, scales: TensorScales | None = None) -> None:
        self.scales = TensorScales() if scales is None else scales
        self.only_lowers = False
        self.unknown: set[str] = set()
        self._drawn = drawn or {}

    def run(self, model: ir.Model, correct: CorrectScales | None = None) -> Trial:
        """The scales of a model whose inputs are standard normal.

        Args:
            correct: scale weights on the way. Then the scales of operators are not told.
        """
        from onnx_ghn.onnx_io.copying import copy_model
        from onnx_ghn.passes.linear_operators import (
            is_normalised,
            linear_operators,
            own_bias,
            read_by_these_alone,
            unsquashed,
        )

        if model.functions:
            from onnx_ir.passes.common import InlinePass

            model = copy_model(model)
            InlinePass()(model)
        graph = model.graph
        found = _Values(graph, self._drawn, self.scales)
        linear = {each.node: each for each in linear_operators(graph)}
        wanted = [each for each in linear.values() if correct is not None and each.weight.name in correct.scalable]
        alone = read_by_these_alone(wanted)
        factors: dict[str, float] = {}
        operators: dict[int, float] = {}
        for node in graph:
            each = linear.get(node)
            if each is None or correct is None or each.weight.name not in alone:
                found.visit(node, each)
            else:
                name = each.weight.name or ""
                found.visit(node, each)
                scale = found.of(node.outputs[0])
                assert correct.targets is not None  # layers of scale 1 are measured, never estimated
                target = correct.targets.get(each.number, 0.0)
                if name not in factors and scale is not None and scale.size > _TINY and _TINY < target < math.inf:
                    ratio = target / scale.size
                    if ratio > 1 and self.only_lowers:
                        ratio = 1.0
                    if not 1 / correct.close <= ratio <= correct.close and not is_normalised(node):
                        factors[name] = ratio
                        if (bias := own_bias(each)) in correct.scalable:
                            factors[bias] = ratio
                        found.rescale(name, ratio)
                        found.rescale(bias, ratio)
                        found.visit(node, each)
            scale = found.of(node.outputs[0]) if each is not None else None
            if each is not None and scale is not None:
                operators[each.number] = scale.size
        outputs = {}
        for value in graph.outputs:
            scale = found.of(unsquashed(value))
            if scale is not None:
                outputs[value.name or ""] = scale.size
        self.unknown |= found.unknown
        return Trial({}, {} if correct is not None else operators, outputs, factors)


class _Values:
    """The scales of a graph's values, as far as operators were visited."""

    def __init__(self, graph: ir.Graph, drawn: Mapping[str, Distribution], tensors: TensorScales) -> None:
        import onnx_ir as ir

        self.unknown: set[str] = set()
        self._drawn = drawn
        self._tensors = tensors
        self._floats = (ir.DataType.FLOAT, ir.DataType.DOUBLE, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
        self._scales: dict[int, _Scale | None] = {id(value): _Scale(1.0) for value in graph.inputs}
        self._factors: dict[str, float] = {}
        self._sizes: dict[str, _Scale | None] = {}
        self._probabilities: set[int] = set()

    def rescale(self, name: str, factor: float) -> None:
        """A stored tensor is multiplied by a factor."""
        self._factors[name] = self._factors.get(name, 1.0) * factor

    def of(self, value: ir.Value | None) -> _Scale | None:
        """The scale of a value; None where it is not known, or there is no value."""
        if value is None:
            return None
        if value.const_value is not None and value.producer() is None:
            name = value.name or ""
            if name not in self._sizes:
                self._sizes[name] = self._stored(value.const_value, name)
            stored = self._sizes[name]
            factor = self._factors.get(name, 1.0)
            return stored if stored is None or factor == 1 else _Scale(stored.size * factor, stored.centred)
        return self._scales.get(id(value))

    def visit(self, node: ir.Node, linear: Linear | None) -> None:
        """Work out the scale of what an operator gives."""
        scale = self._linear(node, linear) if linear is not None else self._other(node)
        for output in node.outputs:
            self._scales[id(output)] = scale

    def _stored(self, tensor: ir.TensorProtocol, name: str) -> _Scale | None:
        if name in self._drawn:
            drawn = self._drawn[name]
            return _Scale(math.hypot(drawn.mean, drawn.std), abs(drawn.mean) < 0.5 * drawn.std)
        if not self._is_measured(tensor):
            return _Scale(1.0)  # numbers of indices and shapes play no part
        if isinstance(tensor, AbsentTensor):
            return None
        size = self._tensors.size(tensor)
        if not math.isfinite(size):  # damaged values: then the scale is not known
            return None
        return _Scale(size, abs(self._tensors.mean(tensor)) < 0.5 * size)

    def _weight(self, value: ir.Value | None) -> float | None:
        """The size of a weight: its mean, which nobody asks for, is not worked out."""
        tensor = None if value is None or value.producer() is not None else value.const_value
        name = "" if value is None else value.name or ""
        if tensor is None or name in self._drawn or isinstance(tensor, AbsentTensor) or not self._is_measured(tensor):
            scale = self.of(value)
            return None if scale is None else scale.size
        size = self._tensors.size(tensor) * self._factors.get(name, 1.0)
        return size if math.isfinite(size) else None

    def _is_measured(self, tensor: ir.TensorProtocol) -> bool:
        return tensor.dtype in self._floats and tensor.size > 0

    def _linear(self, node: ir.Node, linear: Linear) -> _Scale | None:
        if node.op_type == "Gather":
            return self.of(node.inputs[linear.place])
        weight = self._weight(node.inputs[linear.place])
        data = self.of(node.inputs[1 - linear.place])
        fan_in = _fan_in(node, linear)
        if weight is None or data is None or fan_in is None:
            return None
        scale = math.sqrt(fan_in) * weight * data.size
        if not data.centred:  # what all inputs have in common is multiplied by the sum of a row's weights
            # Rows that are drawn have signs at random.
            agreement = 1.0 if linear.weight.name in self._drawn else self._agreement(node, linear)
            scale *= math.sqrt(1 - _COMMON + _COMMON * agreement)
        biased = node.inputs[2] if len(node.inputs) > 2 and node.op_type != "DeformConv" else None
        bias = self.of(biased)
        return _Scale(math.hypot(scale, bias.size if bias is not None else 0.0))

    def _agreement(self, node: ir.Node, linear: Linear) -> float:
        """Mean square of the sums of a weight's rows over that of random ones; 1 where it is not known."""
        stored = linear.weight.const_value
        if node.inputs[linear.place] is not linear.weight or stored is None or node.op_type == "ConvTranspose":
            return 1.0
        if isinstance(stored, AbsentTensor):
            return 1.0
        rows: Rows = "rows" if _is_turned(node, linear) else "columns"
        agreement = self._tensors.agreement(stored, "kernels" if node.op_type.endswith("Conv") else rows)
        return agreement if math.isfinite(agreement) else 1.0

    def _other(self, node: ir.Node) -> _Scale | None:
        kind = node.op_type
        if kind in ("Constant", "ConstantOfShape"):
            return self._constant(node)
        given = [self.of(value) for value in node.inputs if value is not None]
        if kind in _SIZES:
            return _Scale(1.0, False)
        if node.domain not in ("", "ai.onnx") or kind not in _KNOWN:
            self.unknown.add(f"{node.domain}::{kind}" if node.domain else kind)
            return None
        first = given[0] if given else None
        if kind in _CENTRING | _UNCENTRED:
            gain, shift = (given[i] if i < len(given) else None for i in (1, 2))
            size = 1.0 if gain is None else gain.size
            return _Scale(math.hypot(size, shift.size if shift is not None and kind in _CENTRING else 0.0))
        if kind in _BOUNDED:
            if kind == "Softmax":
                self._probabilities.add(id(node.outputs[0]))
            return _Scale(_BOUNDED[kind], False)
        if first is None:
            return None
        if kind in _PASSES or kind == "Gather":
            if id(node.inputs[0]) in self._probabilities:
                self._probabilities.add(id(node.outputs[0]))
            return first
        if kind in _GAINS:
            return _Scale(first.size * (_GAINS[kind] if first.centred else 1.0), False)
        if kind in _POOLS:
            return _Scale(first.size * (_POOLS[kind] if first.centred else 1.4), False)
        if kind in _MEANS:
            return _Scale(first.size * _MEAN_GAIN, first.centred)
        if kind in ("Tanh", "Erf"):
            return _Scale(first.size / math.hypot(1.0, first.size), first.centred)
        if kind in ("Sqrt", "Reciprocal"):
            size = math.sqrt(first.size) if kind == "Sqrt" else 1 / max(first.size, _TINY)
            return _Scale(size, False)
        if any(scale is None for scale in given):
            return None
        return self._joined(node, [scale for scale in given if scale is not None])

    def _joined(self, node: ir.Node, given: list[_Scale]) -> _Scale | None:
        if node.op_type in _BINARY and len(given) != 2:  # a damaged file
            self.unknown.add(f"{node.op_type} of {len(given)} inputs")
            return None
        sizes = [scale.size for scale in given]
        match node.op_type:
            case "Add" | "Sub" | "Sum":
                return _Scale(math.hypot(*sizes), all(scale.centred for scale in given))
            case "Concat":
                return _Scale(math.hypot(*sizes) / math.sqrt(len(sizes)), all(scale.centred for scale in given))
            case "Mul":
                return _Scale(math.prod(sizes), any(scale.centred for scale in given))
            case "Div":
                return _Scale(sizes[0] / max(sizes[1], _TINY), given[0].centred)
        left, right = node.inputs[:2]  # MatMul of two values that are computed
        if id(left) in self._probabilities:
            return given[1]
        depth = left.shape[-1] if left is not None and left.shape is not None and len(left.shape) else None
        if not isinstance(depth, int) or right is None:
            self.unknown.add("MatMul of two computed values of unknown shape")
            return None
        return _Scale(math.sqrt(depth) * sizes[0] * sizes[1])

    def _constant(self, node: ir.Node) -> _Scale | None:
        attribute, name = node.attributes.get("value"), node.outputs[0].name or ""
        if node.op_type == "ConstantOfShape":
            fill = 0.0 if attribute is None else float(attribute_tensor(attribute).numpy().reshape(-1)[0])
            scale: _Scale | None = _Scale(abs(fill), fill == 0)
        else:
            scale = self._stored(attribute_tensor(attribute), name) if attribute is not None else _Scale(1.0)
        factor = self._factors.get(name, 1.0)
        return scale if scale is None else _Scale(scale.size * factor, scale.centred)


_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "MatMul"})
_JOINS = frozenset({"Add", "Sub", "Sum", "Concat", "Mul", "Div", "MatMul"})
_KNOWN = (
    _PASSES | _CENTRING | _UNCENTRED | _GAINS.keys() | _POOLS.keys() | _MEANS | _BOUNDED.keys() | _JOINS
    | {"Gather", "Tanh", "Erf", "Sqrt", "Reciprocal"}
)  # fmt: skip


def _is_turned(node: ir.Node, linear: Linear) -> bool:
    """Whether a matrix is summed along its last axis."""
    turned = node.attributes.get("transB" if linear.place else "transA")
    return (turned is not None and turned.as_int() != 0) == bool(linear.place)


def _fan_in(node: ir.Node, linear: Linear) -> float | None:
    """How many products an element of the output sums up; None where the weight's shape is not known."""
    shape = _shape(node.inputs[linear.place], linear)
    if shape is None or len(shape) < 2:
        return None
    if node.op_type == "ConvTranspose":
        strides = node.attributes.get("strides")
        groups = node.attributes.get("group")
        step = math.prod(strides.as_ints()) if strides is not None else 1
        return max(math.prod((shape[0], *shape[2:])) / (groups.as_int() if groups is not None else 1) / step, 1.0)
    if node.op_type.endswith("Conv"):
        return math.prod(shape[1:])
    return shape[-1] if _is_turned(node, linear) else shape[-2]


def _shape(value: ir.Value | None, linear: Linear) -> tuple[int, ...] | None:
    """That of a weight as the operator reads it, through a transposition at most."""
    if value is None:
        return None
    stored = linear.weight.const_value
    node = linear.weight.producer()
    if node is not None and node.op_type == "Constant" and "value" in node.attributes:
        stored = attribute_tensor(node.attributes["value"])
    if value is linear.weight and stored is not None:
        return tuple(int(dim) for dim in stored.shape.numpy())
    before = value.producer()
    if before is not None and before.op_type in ("Transpose", "Identity", "Cast"):
        shape = _shape(before.inputs[0], linear)
        if shape is None or before.op_type != "Transpose":
            return shape
        perm = before.attributes.get("perm")
        order = perm.as_ints() if perm is not None else range(len(shape))[::-1]
        return tuple(shape[axis] for axis in order)
    if value.shape is not None and all(isinstance(dim, int) for dim in value.shape):
        return tuple(int(dim) for dim in value.shape if isinstance(dim, int))
    return None
