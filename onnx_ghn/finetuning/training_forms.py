"""Batch norms and dropout, which compute otherwise in training than in inference, put into their form for training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import onnx_ir as ir

from onnx_ghn.errors import GraphError
from onnx_ghn.finetuning.operators import BY_BATCH, BY_GIVEN, DOMAIN, FROZEN_ATTRIBUTE
from onnx_ghn.graph import Parameter
from onnx_ghn.passes.linear_operators import computed_on_inputs

__all__ = ["Norms", "use_training_operators"]

_MEAN, _VARIANCE = 3, 4  # inputs of BatchNormalization
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclasses.dataclass
class Norms:
    """What becomes of batch norms, each counted once however often it is called: by the names of its statistics."""

    moving: dict[tuple[str, ...], None] = dataclasses.field(default_factory=dict)
    fixed: dict[tuple[str, ...], None] = dataclasses.field(default_factory=dict)
    immovable: dict[tuple[str, ...], None] = dataclasses.field(default_factory=dict)

    @property
    def moved(self) -> tuple[str, ...]:
        """Names of the statistics that training moves."""
        return tuple(dict.fromkeys(name for names in self.moving for name in names))

    def notes(self) -> list[str]:
        """For the user."""
        found = []
        if self.fixed:
            found.append(f"{_norms(len(self.fixed))} their running statistics")
        if self.immovable:
            found.append(
                f"{_norms(len(self.immovable))} their running statistics, as their momentum in the file is 1 (what "
                "torch's exporter writes for momentum=None)"
            )
        return found


def _norms(count: int) -> str:
    return "1 batch norm keeps" if count == 1 else f"{count} batch norms keep"


def use_training_operators(
    model: ir.Model, stored_names: Mapping[str, str], parameters: Mapping[str, Parameter], wanted: Callable[[str], bool]
) -> Norms:
    """Rename batch norms and dropout into our domain, in place; which statistics move, and which norms are fixed.

    Args:
        stored_names: by those of initializers in `model`.
        parameters: by stored name.
        wanted: whether a tensor of a stored name may be trained.

    Raises:
        GraphError: a batch norm in its training form, which computes otherwise for each batch.
    """
    norms = Norms()
    of_images = computed_on_inputs(model.graph)
    for node in model.graph:
        if node.domain not in _DEFAULT_DOMAINS:
            continue
        if node.op_type == "Dropout" and not any(output.uses() for output in node.outputs[1:]):
            ratio = node.inputs[1] if len(node.inputs) > 1 else None
            if ratio is None or ratio.is_initializer():
                node.domain = DOMAIN
                node.resize_outputs(1)
        elif node.op_type == "BatchNormalization":
            _rewrite_norm(node, node.inputs[0] in of_images, norms, stored_names, parameters, wanted)
    model.opset_imports[DOMAIN] = 1
    return norms


def _rewrite_norm(
    node: ir.Node,
    is_of_images: bool,
    norms: Norms,
    stored_names: Mapping[str, str],
    parameters: Mapping[str, Parameter],
    wanted: Callable[[str], bool],
) -> None:
    if _is_in_training_form(node):
        if is_of_images or any(output.uses() or output.is_graph_output() for output in node.outputs[1:]):
            name = node.name or node.outputs[0].name
            raise GraphError(
                f"node {name!r} is a BatchNormalization in its training form: it normalises by the statistics of each "
                "batch, and an answer depends on the other images; export the model for inference (net.eval())"
            )
        # It standardises a kernel, whatever the images are (ScaledStdConv and StdConv of timm).
        node.resize_outputs(1)
        node.resize_inputs(_MEAN)  # what stored statistics would begin with is not read
        _rename(node, BY_BATCH, {"epsilon"})
        return
    statistics = [value.name if value is not None else None for value in node.inputs[_MEAN : _VARIANCE + 1]]
    names = tuple(stored_names.get(name or "", "") for name in statistics)
    if not all(names):  # computed: there is nothing to keep what training would measure
        if is_of_images:
            norms.fixed[(*names, node.name or "")] = None
        _rename(node, BY_GIVEN, {"epsilon"})
        return
    _rename(node, node.op_type, {"epsilon", "momentum"})
    momentum = node.attributes.get("momentum")
    free = all(wanted(name) and not parameters[name].frozen for name in names)
    if free and (momentum is None or momentum.as_float() < 1):
        norms.moving[names] = None
        return
    (norms.immovable if free else norms.fixed)[names] = None
    node.attributes.add(ir.AttrInt64(FROZEN_ATTRIBUTE, 1))


def _rename(node: ir.Node, op_type: str, kept: set[str]) -> None:
    """Make a node one of our domain, with the attributes that are named, in place."""
    node.domain, node.op_type = DOMAIN, op_type
    for attribute in set(node.attributes) - kept:
        del node.attributes[attribute]


def _is_in_training_form(node: ir.Node) -> bool:
    """By its attribute, or before opset 14 by its outputs, a norm uses each batch's statistics in inference, too."""
    mode = node.attributes.get("training_mode")
    return (mode is not None and mode.as_int() == 1) or any(output.name for output in node.outputs[1:])
