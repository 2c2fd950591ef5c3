"""Units that compute the same: equal going in and coming out, they get equal gradients, and no training parts them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.arrays import Array
from onnx_ghn.graph import Parameter, Role
from onnx_ghn.prediction.making import TWIN_NOISE
from onnx_ghn.prediction.postprocess import separate_copies

__all__ = ["tell_copies_apart"]

_LEAST_UNITS = 2


def tell_copies_apart(
    tensors: Mapping[str, Array],
    parameters: Mapping[str, Parameter],
    model: ir.Model,
    names: Mapping[str, str],
    seed: int,
) -> tuple[dict[str, Array], list[str]]:
    """New values of the tensors that training could not tell apart, and what was found.

    Args:
        tensors: those that are trained, by stored name.
        model, names: the model that is trained, and the names that its initializers have there.
        seed: of the noise.
    """
    weights = {
        name: array
        for name, array in tensors.items()
        if parameters[name].role is Role.weight and array.ndim > 1 and not parameters[name].kept
    }
    copied = {name: found for name, array in weights.items() if (found := _copies(array, parameters[name])) is not None}
    twins = {name: first for name, first in _twins(weights, model, names) if name not in copied}
    changed = {name: _noised(name, tensors[name], parameters[name], seed) for name in (*copied, *twins)}
    notes = []
    if copied:
        name, (n_distinct, n_units) = max(copied.items(), key=lambda entry: entry[1][1] - entry[1][0])
        what = "1 weight has" if len(copied) == 1 else f"{len(copied)} weights have"
        notes.append(
            f"{what} units that are copies of each other, most in {name}: {n_distinct:,} different ones of "
            f"{n_units:,}. Noise of {TWIN_NOISE:.0%} of the spread told them apart before training, which "
            "could not have"
        )
    if twins:
        name, first = next(iter(twins.items()))
        what = "1 weight equals" if len(twins) == 1 else f"{len(twins)} weights equal"
        notes.append(
            f"{what} one that reads the same values, first {name} and {first}. Noise of {TWIN_NOISE:.0%} of the spread "
            "told them apart before training, which could not have"
        )
    return changed, notes


def _copies(array: Array, parameter: Parameter) -> tuple[int, int] | None:
    """Different units and all units, where there are copies; None where none are, or where all of a tensor is equal.

    A kernel with one input channel a unit reads a channel of its own, as in a depthwise convolution.
    """
    units = parameter.layout.to_canonical(array)  # out × in (× kh × kw)
    if units.ndim < 2 or units.shape[0] < _LEAST_UNITS or (units.ndim > 2 and units.shape[1] == 1):
        return None
    rows = units.reshape(len(units), -1)
    if rows.shape[1] == 0 or float(rows.std()) == 0:  # zeros on purpose, such as the last layer of a branch
        return None
    n_distinct = len(np.unique(rows, axis=0))
    return (n_distinct, len(rows)) if n_distinct < len(rows) else None


def _twins(weights: Mapping[str, Array], model: ir.Model, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Weights that equal another one which reads the same values, each with the first of these."""
    first: dict[tuple[object, ...], str] = {}
    for name, array in weights.items():
        uses = list(model.graph.initializers[names[name]].uses())
        if not uses or float(array.std()) == 0:
            continue
        node, index = uses[0].node, uses[0].idx
        others = tuple(value for number, value in enumerate(node.inputs[:2]) if number != index)
        key = (node.op_type, index, others, array.shape, array.tobytes())
        if first.setdefault(key, name) != name:
            yield name, first[key]


def _noised(name: str, array: Array, parameter: Parameter, seed: int) -> Array:
    canonical = np.asarray(parameter.layout.to_canonical(array), np.float32)
    noised = separate_copies(canonical, name, "noise", TWIN_NOISE, seed)
    return np.asarray(parameter.layout.from_canonical(noised), array.dtype).reshape(array.shape)
