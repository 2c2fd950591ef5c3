"""What each axis of a stored tensor is to the operator that reads it; which axes of two tensors are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx_ghn.inheritance.tracing import Trace

__all__ = ["joined_order", "roles_of"]

_ROLES: Mapping[str, tuple[str, ...]] = {
    "conv": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "depthwise": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "grouped": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "transposed": ("in", "out", "kernel0", "kernel1", "kernel2"),
    "linear": ("out", "in", "kernel0", "kernel1", "kernel2"),
    "table": ("rows", "out"),
    "place": ("batch", "place", "channel"),
    "recurrent_in": ("direction", "out", "in"),
    "recurrent_state": ("direction", "out", "in"),
    "recurrent_bias": ("direction", "out"),
}


def roles_of(trace: Trace, name: str) -> list[str]:
    """The role of each stored axis."""
    spans = trace.axes.get(name, ())
    kind = trace.uses[name].kind
    roles = [span.role if span is not None else "" for span in spans]
    free = [role for role in _ROLES.get(kind, ("channel",) * max(1, len(roles))) if role not in roles]
    if kind == "place" and "place" not in roles and len(spans) < 3:
        free = ["batch", *free] if "channel" in roles else free
    for i, role in enumerate(roles):
        if not role:
            roles[i] = free.pop(0) if free else f"other{i}"
    if kind in ("vector", "norm_scale", "norm_shift", "norm_mean", "norm_variance", "factor"):
        known = ("channel", "layer", "place") if kind.startswith("norm") else ("channel", "layer")
        roles = [
            span.role if span is not None and span.role in known else f"other{len(spans) - i}"
            for i, span in enumerate(spans)
        ]
    return roles


def joined_order(mine: Sequence[str], theirs: Sequence[str]) -> tuple[int, ...]:
    """For each axis of the recipient, by its role, the donor's; -1 where the donor has none."""
    free = list(enumerate(theirs))
    order = []
    for role in mine:
        found = next(((i, other) for i, other in free if other == role), None)
        if found is not None:
            free.remove(found)
        order.append(found[0] if found is not None else -1)
    return tuple(order)
