"""The main job: open -> graph -> GHN -> plan -> inject -> calibrate -> write."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Unpack

from onnx_ghn.arguments import value_told
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.graph import ComputationGraph, Role
from onnx_ghn.graph.builder import read_graph
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.prediction.calibration import moving_statistics
from onnx_ghn.prediction.choosing import choose
from onnx_ghn.prediction.collapse import guarded
from onnx_ghn.prediction.copies import note_copies
from onnx_ghn.prediction.coverage import CoverageReport
from onnx_ghn.prediction.emptied import note_emptied
from onnx_ghn.prediction.nothing_to_fill import why_none
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions
from onnx_ghn.prediction.origins import Origin, mark_origins
from onnx_ghn.prediction.plan import Decision, constants_of, plan, uncertain_of
from onnx_ghn.prediction.result import Prediction
from onnx_ghn.prediction.settling import Settled, settle
from onnx_ghn.prediction.stored_zeros import note_zeros
from onnx_ghn.prediction.symmetry import tell_apart

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.ghn import GHN, ArrayGHN
    from onnx_ghn.inheritance.inheriting import Inheritance

__all__ = ["predict", "resolve_ghn"]


@no_garbage_collection()
def predict(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str] | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
    force: bool = False,
    base_dir: str | os.PathLike[str] | None = None,
    options: PredictOptions | None = None,
    **changes: Unpack[PredictKeywords],
) -> Prediction:
    """Fill trainable tensors of an ONNX model with predicted weights.

    Args:
        source: a file, a ModelProto or an ir.Model; none of them is changed.
        output: where to write the filled model; None writes nothing.
        ghn: a GHN, the name of a shipped one, a folder, or a published .pt; None takes the default. One that is named
            predicts without torch, unless it is a .pt.
        force: overwrite `output`.
        base_dir: where the external data of a ModelProto lie; for a file, its folder. Data that are lost are no
            obstacle where all their tensors get new values.
        options: how to predict; None takes the defaults.
        changes: single fields of `PredictOptions`: policy, include, exclude, fallback, post, post_strength, calibrate,
            unfold_batchnorm, overwrite_special, correct_scales, tell_apart, donors, blend, selection, classes,
            vocabulary, seed.

    Returns:
        the prediction: arrays by name, the coverage report, the graph.

    Raises:
        OnnxGhnError: ModelReadError, GraphError, CheckpointError, OptionError, RuntimeFailure, ModelWriteError.
    """
    from onnx_ghn.onnx_io import check_target, stored_tensors
    from onnx_ghn.onnx_io.absent import require_values
    from onnx_ghn.onnx_io.shape_checks import check_shapes
    from onnx_ghn.passes import open_model
    from onnx_ghn.passes.restoring import check_frozen

    options = PredictOptions.of(options, **changes)
    if output is not None:
        # before the work, not after it
        check_target(output, force, inputs=(source, ghn, options.calibrate, *options.donors))
    network = resolve_ghn(ghn)
    opened = open_model(source, base_dir=base_dir, unfold_batchnorm=options.unfold_batchnorm)
    graph, flat = read_graph(opened.model, opened.stored, network.config.graph_rules)
    check_shapes(opened.model, opened.stored)
    lost = check_frozen(opened.model, opened.stored)
    _check(graph, opened.model, options)
    ghn_name = network.config.name or "unnamed GHN"
    choice = choose(options, network.policy_file, ghn_name, opened.model, graph, opened.stored)
    inheritance: Inheritance | None = None
    origins: dict[str, Origin] = {}
    if options.donors:
        from onnx_ghn.prediction import inheriting

        inheritance = inheriting.inheritance_of(opened, flat, graph, options)
        origins = inheriting.origins_of(inheritance)
    del flat  # of a large model, a million objects
    blocks = network.blocks(graph)
    decisions = plan(graph, opened.stored, options, blocks.keys(), choice.verdicts, origins)
    equal_weights: list[str] = []
    if options.tell_apart:
        decisions, equal_weights = tell_apart(graph, blocks, decisions, options)
    if output is not None:
        filled = {name for decision in decisions if decision.maker is not None for name in decision.maker.names}
        filled |= moving_statistics(graph) if options.calibrates else set()
        require_values(opened.stored.values(), filled)  # before the work that calibration is
    has_collapsed = False
    if inheritance is None:
        chosen = choice
        choice, decisions = guarded(opened, graph, chosen, decisions, blocks, options)
        has_collapsed = choice is not chosen
    to_measure, settling = graph, options
    if inheritance is not None:
        # Inherited weights have the scales that training gave them, and statistics that go with them.
        inherited = [d.parameter.name for d in decisions if d.origin is not None]
        to_measure = inheriting.unmeasured(graph, inherited)
        settling = dataclasses.replace(options, correct_scales=False)
    unit_scales = choice.unit_scales and inheritance is None
    if has_collapsed and not unit_scales and all(decision.maker is None for decision in decisions):
        settled = Settled({})  # nothing changes, and the inputs were of use
    else:
        settled = settle(opened, to_measure, decisions, blocks, settling, unit_scales=unit_scales)
    copies = note_copies(decisions, blocks, options)
    emptied = note_emptied(decisions, opened.stored)
    told: list[str] = []
    if inheritance is not None:
        apart = inheriting.compared(inheritance, opened.model, options)
        told = inheriting.inheritance_notes(inheritance, options, apart)
    mark_origins(opened.model, {d.parameter.name: d.origin for d in decisions if d.origin is not None})
    notes = [
        *opened.notes,
        *lost,
        *told,
        *([] if has_collapsed else equal_weights),
        *copies,
        *note_zeros(decisions, options),
        *emptied,
        *settled.notes,
    ]
    decided = [_as_scaled(decision, settled.factors) for decision in decisions]
    choice = dataclasses.replace(choice, unit_scales=bool(settled.factors))
    coverage = CoverageReport([*decided, *uncertain_of(graph)], notes, constants_of(graph), choice, ghn_name)
    # Tensors that were one with another are new in the file, be it that they keep the values of that one.
    new = {d.parameter.name for d in decisions if d.outcome == "kept"} & set(opened.untied)
    new |= {d.parameter.name for d in decisions if d.by_policy}
    new |= {row.name for row in graph.uncertain if row.size > 1 and "float" in row.dtype}
    tensors = {**{name: opened.stored[name].numpy for name in sorted(new)}, **settled.tensors}
    prediction = Prediction(opened.model, graph, tensors, coverage, ghn_name, inheritance)
    if output is not None:
        if any(one.is_absent for one in opened.stored.values()):
            require_values(stored_tensors(opened.model).values())  # statistics that calibration could not measure
        prediction.save(output, force=force)
    return prediction


def resolve_ghn(ghn: str | os.PathLike[str] | GHN | ArrayGHN | None) -> GHN | ArrayGHN:
    """The GHN to predict with; None is the bundled one (without any, an untrained GHN-2 from seed 0)."""
    from onnx_ghn.ghn import list_ghns, load_array_ghn

    if ghn is not None and not isinstance(ghn, str | os.PathLike) and not hasattr(ghn, "blocks"):
        raise OptionError(
            f"`ghn` {value_told(ghn)} must be a GHN, the name of a shipped one, a folder, or a published .pt"
        )
    if ghn is None and not list_ghns():
        from onnx_ghn.ghn import GHNConfig, new_ghn

        return new_ghn(GHNConfig.preset("ghn2"), seed=0)
    return load_array_ghn(ghn) if ghn is None or isinstance(ghn, str | os.PathLike) else ghn


def _as_scaled(decision: Decision, factors: Mapping[str, float]) -> Decision:
    """The decision on a tensor that has its own start, or a standard one, but for a factor, with that factor."""
    factor = factors.get(decision.parameter.name, 1.0)
    if decision.outcome not in ("kept", "fallback") or factor == 1:
        return decision
    return dataclasses.replace(decision, reason=f"{decision.reason}; scaled", factor=factor)


def _check(graph: ComputationGraph, model: ir.Model, options: PredictOptions) -> None:
    """Raise GraphError for a graph with nothing to fill, or with a tensor that does not fit into memory.

    One tensor at a time is in memory; a shape that ConstantOfShape declares can be of any size.
    """
    trainable = [p for p in graph.parameters if p.role is not Role.statistic and not p.frozen]
    if not trainable:
        raise GraphError(f"graph {graph.name!r} has no trainable tensors: {why_none(graph, model)}")
    limit_bytes = memory_bytes()
    for parameter in trainable:
        needed_bytes = 1.25 * 4 * parameter.size  # in float32, with room for the pieces that are written
        if needed_bytes > limit_bytes and options.wants(parameter.name):
            raise GraphError(
                f"parameter {parameter.name!r} of shape {list(parameter.shape)} needs {gib(needed_bytes)} of memory "
                f"and there are {gib(limit_bytes)}: leave it out with `exclude`, or take a machine with more"
            )
