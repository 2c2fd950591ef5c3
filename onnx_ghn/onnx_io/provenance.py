"""What a file itself says of where its tensors come from: from parameters of a framework, or from constants."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir as ir

from onnx_ghn.onnx_io.common_value import common_value
from onnx_ghn.onnx_io.marks import (
    FOLDED_FROM,
    TORCH_KIND,
    TORCH_UNTRAINED,
    Ranges,
    noted_constants,
    noted_learned,
    notes,
    torch_kinds,
)
from onnx_ghn.onnx_io.repeated import repeated_elements
from onnx_ghn.onnx_io.stored import StoredTensor
from onnx_ghn.onnx_io.view_operators import VIEW_OPERATORS

__all__ = ["STARTS", "Provenance", "changes_state", "provenance"]

#: Why zeros are no parameter from which a state or an accumulation begins.
STARTS = "zeros that the computation starts from"

_QUOTED = re.compile(r"'([^']*)'")
_OF_TORCHS_CODE = re.compile(r"/(?:.*/)?Constant(?:_\d+)?_output_0")
# What tools computed of parameters. Attention to one position alone is 1 without any.
_OF_TOOLS = re.compile(r"/(?:.*/)?(?!Constant|Softmax)[A-Z]\w*_output_\d+|_v_\d+")
_NUMBERED = re.compile(r"val_\d+")
_OF_PADDLE = re.compile(r"(?:p2o\.)?(?:helper\.)?const(?:ant)?\.\d+|Constant[_@]\d+")
_CAST_BY_PADDLE = re.compile(r"(?:p2o\.)?auto\.cast\.\d+")
_LEARNED_BY_PADDLE = re.compile(r"(?!batch_norm\w*\.w_[12])\w+_\d+\.[wb]_\d+(?:_deepcopy_\d+)?")
_VIEWS = VIEW_OPERATORS | {"Expand", "Tile", "Slice"}
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Where"})
_BYTES = frozenset({"INT8", "UINT8"})
_WEIGHT_INPUTS = frozenset({("Conv", 1), ("ConvTranspose", 1), ("Gemm", 1), ("MatMul", 1), ("Gather", 0)})
_OF_RECURRENCES = {(op, index) for op in ("LSTM", "GRU", "RNN") for index in (1, 2)}
_WEIGHTS_OF_LAYERS = _WEIGHT_INPUTS | _OF_RECURRENCES | {("Einsum", 1)}


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What is known of a file's tensors before anybody looks at the operators that read them.

    Attributes:
        learned: stored names of those that hold what the framework calls a parameter.
        made: stored names of those that are no parameters, each with a reason for people.
        zeros: those of `made` that are zeros from which the computation starts: a state, an accumulator.
        repeated: for stored tensors with elements of parameters that another place of the file holds, too, how many.
        traced: stored names of those that our exporters found in the framework's model, be they trained or not; none
            where there is no trace.
    """

    learned: frozenset[str] = frozenset()
    made: Mapping[str, str] = dataclasses.field(default_factory=dict)
    zeros: frozenset[str] = frozenset()
    repeated: Mapping[str, int] = dataclasses.field(default_factory=dict)
    traced: frozenset[str] = frozenset()


def provenance(model: ir.Model, stored: Mapping[str, StoredTensor], frozen: Mapping[str, Ranges]) -> Provenance:
    """Read the notes of our exporters, the marks of torch's exporter, and the zeros that a computation starts from.

    Args:
        stored: the tensors of the model.
        frozen: what the file says that the framework does not train; see `marks.frozen_tensors`.
    """
    traced = _traced(model, stored)
    made = {name: "the framework does not train it" for name, ranges in frozen.items() if ranges is None}
    marked = {name: kind for name, tensor in stored.items() if (kind := tensor.value.metadata_props.get(TORCH_KIND))}
    is_paddles = _is_of_paddle(model, stored)
    learned = {name for name, kind in marked.items() if kind == "PARAMETER"} | traced
    learned |= noted_learned(model) & stored.keys()
    learned |= {name for name in stored if is_paddles and _LEARNED_BY_PADDLE.fullmatch(name)}
    kinds = torch_kinds(model)
    if marked or kinds:
        for name, tensor in stored.items():
            if name not in marked and name not in learned and _is_folded_constant(tensor, kinds):
                made.setdefault(name, "torch's exporter made it of constants")
    for name in _constants_of_torch(model, stored) - learned:
        made.setdefault(name, "a constant of the code: torch stores parameters as initializers")
    # The scale and shift of a norm that has none, say: paddle2onnx names them itself (const.0, p2o.helper.constant.12).
    # So it does numbers of the code that it casts once and for all (auto.cast.4): a scale of attention scores.
    of_paddle = {
        name
        for name, tensor in stored.items()
        if is_paddles
        and (_OF_PADDLE.fullmatch(name) or (_CAST_BY_PADDLE.fullmatch(name) and math.prod(tensor.shape) == 1))
    }
    for name in of_paddle - learned:
        made.setdefault(name, "a constant that paddle2onnx adds: parameters have names of layers")
    for name in _fills_of_jax(model, stored) - learned:
        made.setdefault(name, "values that the code makes: jax2onnx stores a model's arrays as initializers")
    # In a stripped file all weights are zeros of that kind; `strip` has noted which are none.
    noted = noted_constants(model, stored)
    may_start = stored if _holds_weights(stored) else {name: stored[name] for name in noted & stored.keys()}
    has_others = any(tensor.node is None for tensor in stored.values())
    zeros = {
        name
        for name, tensor in may_start.items()
        if name not in learned and _is_start(tensor, is_told=name in noted or has_others)
    }
    made.update(dict.fromkeys(zeros, STARTS))
    learned -= made.keys()
    repeated = repeated_elements(model, stored, learned, made)
    return Provenance(frozenset(learned), made, frozenset(zeros), repeated, frozenset(traced))


def _traced(model: ir.Model, stored: Mapping[str, StoredTensor]) -> set[str]:
    """Stored names in the traces of our exporters; none where there is no trace, or no readable one: `load` says so."""
    found: set[str] = set()
    for note in notes(model):
        for prefix in note.prefixes(stored):
            found |= {prefix + name for name in note.weights or ()} & stored.keys()
    return found


def _constants_of_torch(model: ir.Model, stored: Mapping[str, StoredTensor]) -> set[str]:
    """What Constant nodes hold in a file of torch's, whose exporters write parameters and buffers as initializers.

    Tools make initializers of these nodes, too, which keep the names that the exporter gave to their outputs. Where
    all weights are held so, a tool has moved them, or the module was frozen before. What has the name of another
    operator's result is what a tool (onnxsim 0.8.1) computed of stored tensors: rows of a table, say. So is what it
    numbers (_v_446): kernels, multiplied by the 0.5 of a GELU before them.
    """
    floats = {name: tensor for name, tensor in stored.items() if tensor.dtype.is_floating_point()}
    named = {name for name in floats if _OF_TORCHS_CODE.fullmatch(name)}
    matrices = {
        tensor.kind
        for name, tensor in stored.items()
        if len(tensor.shape) > 1 and name not in named and (name in floats or tensor.dtype.name in _BYTES)
    }
    # Where a file was stripped, the places of its weights are fills, and what it computes with stays as it was stored.
    is_stripped = "constant_of_shape" in matrices and "constant" not in matrices
    if "initializer" not in matrices and not is_stripped:
        return set()
    is_torchs = model.producer_name == "pytorch"  # a tool may have set another name
    return named | {
        name
        for name, tensor in floats.items()
        if is_torchs and tensor.kind == "constant" and not _OF_TOOLS.fullmatch(name)
    }


def _is_of_paddle(model: ir.Model, stored: Mapping[str, StoredTensor]) -> bool:
    """Whether paddle2onnx wrote a file, in any of its versions: the program's own names of parameters are in it.

    They are those of layers (conv2d_0.w_0, learnable_affine_block_3.w_1), unless the author of a model gave others.
    """
    told = (model.graph.name or "", model.producer_name or "")
    return any("paddle" in each.lower() for each in told) or any(name.startswith("p2o.") for name in stored)


def _fills_of_jax(model: ir.Model, stored: Mapping[str, StoredTensor]) -> set[str]:
    """What ConstantOfShape makes in a file of jax2onnx that holds its weights: a bias that a layer is without, say."""
    if model.producer_name != "jax2onnx" or not _holds_weights(stored):
        return set()
    return {name for name, tensor in stored.items() if tensor.kind == "constant_of_shape"}


def _is_folded_constant(tensor: StoredTensor, kinds: Mapping[str, str]) -> bool:
    """Whether torch's exporter made a tensor of nothing that is trained.

    Its constant folding tells the names of what it folded. Those that torch.export lists are of a known kind; others
    are values on the way. Where a name is of neither kind (it has a dot, as torch's names of layers have), the tensor
    may be a parameter in another form. Without torch's list it may be one, too, unless it holds one value. So may a
    matrix of nothing but numbered values: onnxscript's folding forgets, in a second run, what it folded these of.

    Args:
        kinds: what torch.export lists; see `marks.torch_kinds`.
    """
    told = tensor.value.metadata_props.get(FOLDED_FROM)
    if not told:
        return bool(kinds) and _is_number_of_code(tensor, kinds)
    sources = _QUOTED.findall(told)
    listed = [kinds[name] for name in sources if name in kinds]
    if any(kind not in TORCH_UNTRAINED for kind in listed) or any("." in name for name in set(sources) - kinds.keys()):
        return False
    is_known = bool(kinds) and not (_is_matrix(tensor) and all(_NUMBERED.fullmatch(name) for name in sources))
    return is_known or common_value(tensor) is not None


def _is_matrix(tensor: StoredTensor) -> bool:
    """Whether operators take a tensor as a matrix, and none element by element, as they do masks and angles."""
    return (
        sum(size > 1 for size in tensor.shape) > 1
        and tensor.dtype.is_floating_point()
        and not any(use.node.op_type in _ELEMENTWISE for use in tensor.value.uses())
    )


def _is_number_of_code(tensor: StoredTensor, kinds: Mapping[str, str]) -> bool:
    """A single number that torch's exporter named itself (val_7), and folded of nothing: an operand in the code."""
    return math.prod(tensor.shape) == 1 and tensor.name not in kinds and _NUMBERED.fullmatch(tensor.name) is not None


def _is_start(tensor: StoredTensor, *, is_told: bool) -> bool:
    """Zeros that a node of the model makes, where its weights are stored otherwise.

    A vector may be a bias of zeros, unless a loop or a recurrent operator begins with it.

    Args:
        is_told: whether a Constant node tells it from weights, as it does not where an exporter stores these so.
    """
    if tensor.node is None or not tensor.dtype.is_floating_point() or not tensor.shape:
        return False
    is_state = _is_first_state(tensor.value)
    if len(tensor.shape) == 1 and not is_state:
        return False
    if not is_state and tensor.node.op_type == "Constant" and not is_told:
        return False
    if any((use.node.op_type, use.idx) in _WEIGHT_INPUTS for use in tensor.value.uses()):
        return False
    return common_value(tensor) == 0


def _is_first_state(value: ir.Value) -> bool:
    """Whether a value, seen otherwise or repeated, is what recurrences begin with and then change, and nothing else."""
    found = False
    for node, index in _readers(value):
        if not changes_state(node, index):
            return False
        found = True
    return found


def _readers(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """The operators that read a value, seen otherwise or repeated, and as which input; not those that only do this."""
    pending, seen = [value], {value}
    while pending:  # without recursion: views can be thousands deep
        for use in pending.pop().uses():
            if use.idx == 0 and use.node.op_type in _VIEWS and not use.node.domain:
                pending += set(use.node.outputs) - seen
                seen.update(use.node.outputs)
            else:
                yield use.node, use.idx


def changes_state(node: ir.Node, index: int) -> bool:
    """Whether an input of a recurrent operator is its first state, or one of a Loop or Scan that the body changes."""
    if node.op_type in ("LSTM", "GRU", "RNN") and not node.domain:
        return index in (5, 6)
    body = node.attributes.get("body")
    if node.domain or node.op_type not in ("Loop", "Scan") or body is None:
        return False
    graph = body.as_graph()
    if node.op_type == "Loop":
        first, after = 2, index - 1  # behind the number of steps and the condition, of which the body gives one
    else:
        first, after = 0, index
        if index >= len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0):
            return False
    if not first <= index < len(graph.inputs) or after >= len(graph.outputs):
        return False
    last: ir.Value | None = graph.outputs[after]
    while last is not None and (maker := last.producer()) is not None and maker.op_type == "Identity":
        last = maker.inputs[0]
    return last is not graph.inputs[index]


def _holds_weights(stored: Mapping[str, StoredTensor]) -> bool:
    """Whether most matrices of a file that layers read as weights are stored as such, and not as fills.

    Where no layer reads any so, all matrices count. Of as many of both kinds, the larger ones say it. Elements alone do
    not: tables that `strip` leaves may have more of them than all weights (haiku's biases with a row for each pixel).
    """
    matrices = [each for each in stored.values() if len(each.shape) > 1 and each.dtype.is_floating_point()]
    filled, kept = [0, 0], [0, 0]  # tensors, elements
    for tensor in [each for each in matrices if _is_read_as_weight(each.value)] or matrices:
        counts = filled if tensor.kind == "constant_of_shape" else kept
        counts[0] += 1
        counts[1] += int(np.prod(tensor.shape, dtype=object))
    return kept > filled


def _is_read_as_weight(value: ir.Value) -> bool:
    """Whether a layer takes a value, or a view of it, where its weight belongs."""
    return any((node.op_type, index) in _WEIGHTS_OF_LAYERS for node, index in _readers(value))
