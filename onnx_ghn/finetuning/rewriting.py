"""A model rewritten for training: every tensor that is trained an initializer of the main graph, under a safe name.

The rewritten model is only what torch trains. The file that is written in the end is the one that was read, with new
tensors in it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import onnx_ir as ir
from onnx_ir.passes import common

from onnx_ghn.errors import GraphError, ModelReadError, OptionError
from onnx_ghn.finetuning.endings import Ending, leave_out_ending
from onnx_ghn.finetuning.gradients import Blocked, find_blocked
from onnx_ghn.finetuning.training_forms import use_training_operators
from onnx_ghn.graph import Parameter, Role
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.onnx_io import inject, read_model, stored_tensors
from onnx_ghn.onnx_io.map_types import has_map_type
from onnx_ghn.passes import UntieMergedTensors
from onnx_ghn.passes.restoring import RestoreTensors, check_frozen

__all__ = ["ForTraining", "rewrite_for_training"]

_TRAINABLE_TYPES = (ir.DataType.FLOAT, ir.DataType.DOUBLE)
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclasses.dataclass(frozen=True)
class ForTraining:
    """A model for the converter, and what is what in it.

    Attributes:
        model: has one input and one output, and no functions.
        parameters: by stored name, all tensors that training may change: trained ones and statistics.
        trained: stored names of those that gradients change.
        moved: stored names of the running statistics that training moves.
        names: from stored names to those of initializers in `model`, each a Python identifier.
        notes: for the user.
        ending: what the file does after `model`.
    """

    model: ir.Model
    parameters: dict[str, Parameter]
    trained: tuple[str, ...]
    moved: tuple[str, ...]
    names: dict[str, str]
    notes: list[str]
    ending: Ending = Ending.none


def rewrite_for_training(path: str, freeze: Sequence[str] = (), train: Sequence[str] = ()) -> ForTraining:
    """Read a model and rewrite it.

    Args:
        freeze, train: regular expressions searched in stored names: what not to train, and all that is to be trained.

    Raises:
        ModelReadError, GraphError: a model that cannot be read or trained. OptionError: no regular expression, or
            nothing left to train.
    """
    wanted = _choice(freeze, train)
    model = read_model(path)
    if has_map_type(model.graph.outputs[0]):
        raise GraphError(
            f"{path}: its first output {model.graph.outputs[0].name!r} is of maps, not N × classes; export it without "
            "ZipMap (skl2onnx: options={'zipmap': False}), the tensor of scores as its first output"
        )
    RestoreTensors()(model)
    UntieMergedTensors()(model)
    stored = stored_tensors(model)
    check_frozen(model, stored)
    parameters = {p.name: p for p in graph_of(model, stored, "onnx").parameters}
    trained = [
        name
        for name, p in parameters.items()
        if p.role is not Role.statistic and not p.frozen and p.scale_name is None and wanted(name)
    ]
    if not trained:
        raise OptionError(f"{path}: no tensor is left to train; see `onnx-ghn inspect` for their names")
    for name in trained:
        if stored[name].dtype not in _TRAINABLE_TYPES:
            kind = stored[name].dtype.name.lower()
            raise GraphError(f"{path}: tensor {name!r} is stored as {kind}; export the model in float32 to train it")
    notes = []
    if quantised := [name for name, p in parameters.items() if p.scale_name is not None]:
        notes.append(f"{len(quantised)} quantised tensors are not trained, first {quantised[0]}")
    # Tensors of ours in the place of stored ones: they are found again by identity, wherever passes move them.
    own = [name for name in parameters if not stored[name].is_sparse and not stored[name].is_string]
    inject(model, {name: stored[name].numpy for name in own}, stored)
    of_tensor = {id(entry.tensor): name for name, entry in stored_tensors(model).items() if name in parameters}
    _flatten(model)
    ending = _one_output(model)
    names = _rename(model, of_tensor)
    lost = [name for name in trained if name not in names]
    if lost:
        notes.append(f"{len(lost)} tensors do not lead to the first output and are not trained, first {lost[0]}")
        trained = [name for name in trained if name in names]
    if not trained:
        raise GraphError(f"{path}: no trainable tensor leads to the first output")
    if blocked := find_blocked(model, [names[name] for name in trained]):
        by_name = {entry.name: entry for entry in blocked}
        stopped = [(name, by_name[names[name]]) for name in trained if names[name] in by_name]
        trained = [name for name in trained if names[name] not in by_name]
        notes.append(_stopped_note(stopped))
        if not trained:
            raise GraphError(f"{path}: {notes[-1]}")
    norms = use_training_operators(model, {value: name for name, value in names.items()}, parameters, wanted)
    notes += norms.notes()
    return ForTraining(model, parameters, tuple(trained), norms.moved, names, notes, ending)


def _stopped_note(stopped: list[tuple[str, Blocked]]) -> str:
    name, first = stopped[0]
    what = "1 tensor is" if len(stopped) == 1 else f"{len(stopped)} tensors are"
    return (
        f"{what} not trained, first {name}: no gradient passes through {first.op_type} (node {first.node}), whose "
        "slope is zero; train them in their own framework, with a straight-through estimator or a surrogate gradient"
    )


def _choice(freeze: Sequence[str], train: Sequence[str]) -> Callable[[str], bool]:
    try:
        out, only = ([re.compile(expression) for expression in given] for given in (freeze, train))
    except re.error as error:
        raise OptionError(f"{error.pattern!r} is no regular expression: {error}") from error
    return lambda name: (
        (not only or any(pattern.search(name) for pattern in only)) and not any(pattern.search(name) for pattern in out)
    )


def _flatten(model: ir.Model) -> None:
    """No functions, no Identity; constants and subgraphs' initializers in the main graph. In place."""
    passes: list[ir.passes.PassBase] = [
        common.InlinePass(),
        common.IdentityEliminationPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
        common.RemoveInitializersFromInputsPass(),
    ]
    try:
        for one in passes:
            one(model)
    except (ir.passes.PassError, ValueError, KeyError, AttributeError, RuntimeError) as error:
        raise ModelReadError(f"graph {model.graph.name!r} cannot be flattened ({error}); re-export it") from error


def _one_output(model: ir.Model) -> Ending:
    """Keep the first output alone, before its Softmax or Sigmoid: the loss takes logits. In place."""
    model.graph.outputs[:] = model.graph.outputs[:1]
    common.RemoveUnusedNodesPass()(model)
    ending = leave_out_ending(model)
    common.RemoveUnusedNodesPass()(model)
    return ending


def _rename(model: ir.Model, of_tensor: dict[int, str]) -> dict[str, str]:
    """Give every initializer a name that is an identifier and no other's; those of stored tensors by stored name.

    The converter makes identifiers itself, but the same one from a.b and a_b.
    """
    values = list(model.graph.initializers.values())
    for number, value in enumerate(values):
        value.name = f"onnx_ghn_renaming_{number}"  # out of each other's way
    names: dict[str, str] = {}
    first: dict[int, ir.Value] = {}
    taken: set[str] = set()
    for number, value in enumerate(values):
        tensor = value.const_value
        if id(tensor) in first:  # a function that is called twice shares its tensors
            value.replace_all_uses_with(first[id(tensor)])
            del model.graph.initializers[value.name or ""]
            continue
        name = of_tensor.get(id(tensor))
        if name is None:
            value.name = f"constant_{number}"
            continue
        first[id(tensor)] = value
        safe = "w_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        value.name = safe if safe not in taken else f"{safe}__{number}"
        taken.add(value.name)
        names[name] = value.name
    return names


def check_operators(model: ir.Model, supported: Callable[[str, str, int], bool]) -> None:
    """Raise GraphError for the first operator that a converter does not know."""
    for node in model.graph.all_nodes():
        domain = "" if node.domain in _DEFAULT_DOMAINS else node.domain
        version: Any = model.opset_imports.get(node.domain, model.opset_imports.get(domain, 1))
        if not supported(node.op_type, domain, int(version)):
            full = f"{domain}.{node.op_type}" if domain else node.op_type
            raise GraphError(
                f"operator {full} (opset {version}) of node {node.name!r} cannot be trained: onnx2fx, the converter, "
                "does not know it; train this model in its own framework (`onnx-ghn load`)"
            )
