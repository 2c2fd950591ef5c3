"""What the author of a model chose on purpose, told by value and structure, never by name.

A fresh file holds values that no framework draws: the prior of a detection head, a residual branch that starts at
zero, a LayerScale of 1e-6, an adapter whose second matrix is zero. They make the first step what its author wants it to
be, and a predicted tensor in their place undoes that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.frequencies import FREQUENCIES
from onnx_ghn.prediction.fixed_tables import LARGEST_TABLE, fixed_table, may_mask

if TYPE_CHECKING:
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["authors_start", "holds_weights"]


def holds_weights(parameters: Collection[Parameter], stored: Mapping[str, StoredTensor]) -> bool:
    """Whether a file holds the weights of its architecture: some weight has two different elements.

    In a stripped file, one whose data are lost, or one with zeros in the place of all weights, values say nothing.
    """
    from onnx_ghn.onnx_io.common_value import common_value
    from onnx_ghn.onnx_io.tensors import AbsentTensor

    # Of a file that a tool quantised, those are integers, and what else it learned (biases, norms) are floats still.
    weights = [p for p in parameters if (p.role in (Role.weight, Role.embedding) or "int" in p.dtype) and p.size > 1]
    if any(isinstance(stored[p.name].tensor, AbsentTensor) for p in parameters):  # its data file is lost
        return False
    return any(common_value(stored[p.name]) is None for p in weights)


def authors_start(parameter: Parameter, tensor: StoredTensor, *, holds: bool = True) -> str:
    """Why the values that a tensor has now are its author's choice; empty where they are what anybody draws.

    Args:
        tensor: as it is stored.
        holds: whether the file `holds_weights`. In one that does not, a table tells nevertheless what it is: `strip`
            leaves those in their places.
    """
    from onnx_ghn.onnx_io.common_value import common_value

    if tensor.kind == "constant_of_shape":  # the place of a weight that was stripped
        return ""
    if parameter.doubt and (holds or parameter.doubt == FREQUENCIES or may_mask(parameter, tensor)):
        return parameter.doubt
    if parameter.scale_name is not None or parameter.size < 2 or (tensor.is_absent and not holds):
        return ""
    value = common_value(tensor)
    if value is None:
        is_table = not (tensor.is_sparse or tensor.is_string or tensor.is_absent)
        if not is_table or parameter.size > LARGEST_TABLE:  # a gigabyte need not be read for that
            return ""
        values = tensor.numpy()
        if parameter.role in (Role.embedding, Role.position) and bool(np.isneginf(values.astype(np.float32)).any()):
            return "some of it is minus infinity, which masks what it is added to"
        return fixed_table(parameter, values)
    if not holds:
        return ""
    match parameter.role:
        case Role.norm_scale if value != 1:
            return f"a scale that begins at {value:g}"
        case Role.bias | Role.norm_bias if value != 0:
            return f"a bias that begins at {value:g}"
        case Role.weight | Role.embedding | Role.position if value == 0:
            return "a weight that begins at zero"
    return ""
