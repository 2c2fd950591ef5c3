"""Short walks along the edges of a flat graph: what stands before or after a value, views aside."""

from __future__ import annotations

from onnx_ghn.graph.flat import Op, Tensor

__all__ = [
    "activation_before",
    "behind_views",
    "is_hard_gate",
    "is_self_gated",
    "is_squeeze",
    "is_view",
    "next_ops",
    "softmax_before",
]

_VIEWS = frozenset(
    {
        "Reshape",
        "Transpose",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Identity",
        "Cast",
        "CastLike",
        "Expand",
        "Dropout",
        "Join",
    }
)
_ELEMENTWISE = frozenset(
    {
        "Sigmoid",
        "HardSigmoid",
        "Tanh",
        "Clip",
        "Relu",
        "Erf",
        "Softplus",
        "Exp",
        "Log",
        "Neg",
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Cast",
    }
)
_HARD = frozenset({"HardSigmoid", "HardSwish"})


def is_view(op: Op) -> bool:
    """Whether an operator passes its first input on as it is, but for shape, order of axes, type, and rounding: static
    quantisers round data between operators, by QuantizeLinear and DequantizeLinear.
    """
    return op.op_type in _VIEWS or _rounds(op)


def _rounds(op: Op) -> bool:
    """Whether an operator is half of a pair that rounds data."""
    if op.op_type == "QuantizeLinear":
        readers = [user for tensor in op.outputs for user in tensor.consumers]
        return bool(readers) and all(user.op_type == "DequantizeLinear" for user in readers)
    given = op.input(0) if op.op_type == "DequantizeLinear" else None
    return given is not None and given.producer is not None and given.producer.op_type == "QuantizeLinear"


def behind_views(tensor: Tensor | None) -> tuple[Tensor | None, int]:
    """The value that a value is a view of, and how many views lie between."""
    count = 0
    while tensor is not None and tensor.producer is not None and is_view(tensor.producer) and not tensor.is_const:
        tensor = tensor.producer.input(0)
        count += 1
    return tensor, count


def next_ops(tensor: Tensor) -> list[Op]:
    """Operators that read a value or a view of it."""
    readers: list[Op] = []
    stack = [tensor]
    while stack:
        for op in stack.pop().consumers:
            if is_view(op):
                stack.extend(op.outputs)
            else:
                readers.append(op)
    return readers


def activation_before(tensor: Tensor | None) -> tuple[str, int]:
    """("hard" | "sigmoid" | "other" | "", views between): the gate activation whose view a value is."""
    origin, n_views = behind_views(tensor)
    op = origin.producer if origin is not None else None
    if op is None:
        return "", n_views
    if is_hard_gate(op) or _is_hard_product(op):
        return "hard", n_views
    if op.op_type == "Sigmoid":
        return "sigmoid", n_views
    if op.op_type in ("Relu", "Tanh", "Softmax", "Clip"):
        return "other", n_views
    return "", n_views


def is_hard_gate(op: Op) -> bool:
    """HardSigmoid or HardSwish, as one operator or the former as arithmetic."""
    return op.op_type in _HARD or _is_clipped(op)


def _is_hard_product(op: Op) -> bool:
    """x · HardSigmoid(x): Hardswish before opset 14."""
    if op.op_type != "Mul":
        return False
    for gate, other in ((op.input(0), op.input(1)), (op.input(1), op.input(0))):
        producer = gate.producer if gate is not None else None
        if producer is not None and producer.op_type == "HardSigmoid" and producer.input(0) is other:
            return True
    return False


def _is_clipped(op: Op) -> bool:
    """Clip(x + 3, 0, 6) / 6, or with Min and Max in the place of Clip: a hard sigmoid as arithmetic."""
    if op.op_type not in ("Div", "Mul"):
        return False
    before = _only_data(op)
    if before is not None and before.op_type in ("Min", "Max"):
        inner = _only_data(before)
        return inner is not None and {before.op_type, inner.op_type} == {"Min", "Max"} and _adds_constant(inner)
    return before is not None and before.op_type == "Clip" and _adds_constant(before)


def _adds_constant(op: Op) -> bool:
    """Whether an operator's data come from an Add."""
    before = _only_data(op)
    return before is not None and before.op_type == "Add"


def _only_data(op: Op) -> Op | None:
    """The producer of an operator's only input that is not constant."""
    data = [t for t in op.inputs if t is not None and not t.is_const]
    return data[0].producer if len(data) == 1 else None


def is_self_gated(op: Op) -> bool:
    """Whether a product is x · σ(x) (SiLU, GELU, Mish, Hardswish), which is an activation and no gate."""
    left, right = op.input(0), op.input(1)
    for gate, other in ((left, right), (right, left)):
        tensor, _ = behind_views(gate)
        for _step in range(8):  # σ(β·x), Clip(x + 3, 0, 6) / 6, 1 + erf(x / √2): elementwise steps of one variable
            producer = tensor.producer if tensor is not None else None
            if producer is None or producer.op_type not in _ELEMENTWISE:
                break
            data = [t for t in producer.inputs if t is not None and not t.is_const]
            if len(data) != 1:
                break
            tensor = data[0]
            if tensor is other:
                return True
    return False


def is_squeeze(mean: Op, limit: int = 48) -> bool:
    """Whether a mean is the squeeze of squeeze-and-excitation: what it averages is later gated by the result."""
    averaged, _ = behind_views(mean.input(0))
    ahead: list[tuple[Tensor, int]] = [(tensor, 0) for tensor in mean.outputs]
    seen: set[Op] = set()
    while ahead and len(seen) < limit:
        tensor, depth = ahead.pop(0)
        for op in tensor.consumers:
            if op in seen:
                continue
            seen.add(op)
            data = [t for t in op.inputs if t is not None and not t.is_const]
            if op.op_type == "Mul" and len(data) == 2:
                origins = {behind_views(t)[0] for t in data}
                if averaged in origins:
                    return True
                if not is_self_gated(op):
                    continue
            if op.op_type in ("Concat", "Sum") or (op.op_type == "Add" and len(data) > 1 and depth > 12):
                continue
            ahead.extend((out, depth + 1) for out in op.outputs)
    return False


def _is_softmax(op: Op) -> bool:
    """exp(x) / Σ exp(x): Softmax as arithmetic."""
    if op.op_type != "Div":
        return False
    above, below = op.input(0), behind_views(op.input(1))[0]
    total = below.producer if below is not None else None
    exponential = above.producer if above is not None else None
    return (
        exponential is not None
        and exponential.op_type == "Exp"
        and total is not None
        and total.op_type == "ReduceSum"
        and total.input(0) is above
    )


def softmax_before(tensor: Tensor | None) -> Op | None:
    """The Softmax that makes the weights of a weighted sum: behind views, masks (Where, Mul) and dropout."""
    for _ in range(12):
        tensor, _n = behind_views(tensor)
        op = tensor.producer if tensor is not None else None
        if op is None:
            return None
        if op.op_type == "Softmax" or _is_softmax(op):
            return op
        if op.op_type == "Where":
            candidates = [t for t in op.inputs[1:] if t is not None and not t.is_const]
            # Masked rows: Where(mask, 0, weights), or after a NaN guard Where(IsNaN(w), 0, w).
            tensor = candidates[-1] if candidates else None
        elif op.op_type in ("Slice", "Mul", "Div", "Pad"):
            tensor = op.input(0)
        else:
            return None
    return None
