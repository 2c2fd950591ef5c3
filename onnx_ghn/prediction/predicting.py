"""The main job: read -> graph -> GHN -> inject -> calibrate -> write."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.garbage import no_garbage_collection
from onnx_ghn.graph import ComputationGraph, Parameter, Role
from onnx_ghn.graph.builder import graph_of
from onnx_ghn.limits import gib, memory_bytes
from onnx_ghn.prediction.coverage import CoverageEntry, CoverageReport, Outcome
from onnx_ghn.prediction.fallback import standard_init
from onnx_ghn.prediction.postprocess import POST_STRENGTHS, untile

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from onnx_ghn.ghn import GHN, Block
    from onnx_ghn.onnx_io import StoredTensor

__all__ = ["Prediction", "predict"]

Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Options:
    """How to predict; see `predict` for each."""

    include: tuple[re.Pattern[str], ...] = ()
    exclude: tuple[re.Pattern[str], ...] = ()
    fallback: Literal["standard", "keep"] = "standard"
    post: str = "none"
    post_strength: float = 0.0
    seed: int = 0

    def wants(self, name: str) -> bool:
        """Whether a tensor of that name is to be filled."""
        included = not self.include or any(pattern.search(name) for pattern in self.include)
        return included and not any(pattern.search(name) for pattern in self.exclude)


class Prediction(Mapping[str, Array]):
    """Predicted tensors by parameter name, each of the stored shape and type, made when it is asked for.

    Attributes:
        graph: the computational graph that the GHN read.
        coverage: what became of each tensor, and why.
        model: the model with the new tensors in it (an ir.Model; nothing is written yet).
        ghn_name: of the GHN.
    """

    def __init__(
        self,
        model: ir.Model,
        graph: ComputationGraph,
        tensors: dict[str, Callable[[], Array]],
        coverage: CoverageReport,
        ghn_name: str,
    ) -> None:
        self.model = model
        self.graph = graph
        self.coverage = coverage
        self.ghn_name = ghn_name
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        return self._tensors[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"Prediction({self.graph.name!r} by {self.ghn_name}: {len(self)} tensors, {self.coverage!r})"

    def save(self, path: str | os.PathLike[str], *, force: bool = False) -> list[Path]:
        """Write the model. Raises ModelWriteError; see `onnx_io.write_model`."""
        from onnx_ghn.onnx_io import write_model

        return write_model(self.model, path, force=force)


def predict(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    output: str | os.PathLike[str] | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    fallback: Literal["standard", "keep"] = "standard",
    post: str = "none",
    post_strength: float | None = None,
    calibrate: str | os.PathLike[str] = "noise",
    unfold_batchnorm: bool = False,
    seed: int = 0,
    force: bool = False,
) -> Prediction:
    """Fill every trainable tensor of an ONNX model with predicted weights.

    Args:
        source: a file or a ModelProto, which are not changed; or a model that `onnx_io.read_model` gave, which is
            filled itself.
        output: where to write the filled model; None writes nothing.
        ghn: a GHN, the name of a shipped one, a folder, or a published .pt; None takes the default.
        include, exclude: regular expressions searched in parameter names; what they leave out keeps its values.
        fallback: for what no GHN predicts: "standard" initialisation of its role, or "keep" its values.
        post: against copies in tiled tensors: "none", "noise" or "orthogonal".
        post_strength: of that, default `postprocess.POST_STRENGTHS`.
        calibrate: BatchNorm running statistics from "noise" inputs, from a folder of images, or "none".
        unfold_batchnorm: put the batch norms back that an exporter folded into convolutions, as far as names and
            structure show where they were (`onnx_io.unfolding`).
        seed: of all random numbers.
        force: overwrite `output`.

    Returns:
        the prediction: arrays by name, the coverage report, the graph.

    Raises:
        OnnxGhnError: ModelReadError, GraphError, CheckpointError, OptionError, RuntimeFailure, ModelWriteError.
    """
    options = _options(include, exclude, fallback, post, post_strength, seed)
    from onnx_ghn.onnx_io import check_target

    if output is not None:
        check_target(os.fspath(output), force)  # before the work, not after it
    network = resolve_ghn(ghn)
    with no_garbage_collection():
        model, stored, graph, notes = _read(source, network.config.graph_rules, unfold_batchnorm)
    if not any(parameter.role is not Role.statistic and not parameter.frozen for parameter in graph.parameters):
        raise GraphError(f"graph {graph.name!r} has no trainable tensors: export the model with its parameters")
    tensors, coverage = _predict(stored, graph, network, options)
    coverage.notes.extend(notes)
    _inject(model, tensors, stored)
    if str(calibrate) != "none":
        from onnx_ghn.prediction.calibration import calibrate_statistics

        calibrate_statistics(model, graph, coverage, calibrate, seed=seed)
    prediction = Prediction(model, graph, tensors, coverage, network.config.name or "unnamed GHN")
    if output is not None:
        with no_garbage_collection():
            prediction.save(output, force=force)
    return prediction


def resolve_ghn(ghn: str | os.PathLike[str] | GHN | None) -> GHN:
    """The GHN to use; None is the bundled one (without any, an untrained GHN-2 from seed 0)."""
    from onnx_ghn.ghn import GHN, GHNConfig, list_ghns, load_ghn, new_ghn

    if isinstance(ghn, GHN):
        return ghn
    if ghn is not None:
        return load_ghn(ghn)
    shipped = list_ghns()
    return load_ghn(shipped[0].path) if shipped else new_ghn(GHNConfig.preset("ghn2"), seed=0)


def _read(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model, rules: str, unfold_batchnorm: bool
) -> tuple[ir.Model, dict[str, StoredTensor], ComputationGraph, list[str]]:
    """A model of our own, what it stores, its graph, and notes for the report."""
    import onnx_ir as ir

    from onnx_ghn.onnx_io import read_model, stored_tensors
    from onnx_ghn.passes import untie
    from onnx_ghn.passes.unfolding import find_folded, unfold

    model = source if isinstance(source, ir.Model) else read_model(source)
    untie(model)
    notes = []
    if unfold_batchnorm:
        new = unfold(model)
        notes.append(f"{len(new)} folded batch norms put back" if new else "no folded batch norms were found")
    elif folded := find_folded(model):
        notes.append(
            f"{len(folded)} convolutions look as if batch norms had been folded into them: keep those in the export "
            "(see the README), or put them back with --unfold-batchnorm"
        )
    stored = stored_tensors(model)
    return model, stored, graph_of(model, stored, rules), notes


def _options(
    include: Sequence[str],
    exclude: Sequence[str],
    fallback: Literal["standard", "keep"],
    post: str,
    post_strength: float | None,
    seed: int,
) -> Options:
    patterns = []
    for expressions in (include, exclude):
        given = [expressions] if isinstance(expressions, str) else expressions
        try:
            patterns.append(tuple(re.compile(expression) for expression in given))
        except re.error as error:
            raise OptionError(f"{error.pattern!r} is no regular expression: {error}") from error
    if fallback not in ("standard", "keep"):
        raise OptionError(f"fallback {fallback!r} must be standard or keep")
    if not 0 <= seed < 2**63:
        raise OptionError(f"seed {seed} must be at least 0 and below 2^63")
    if post == "none" and post_strength:
        raise OptionError(f"post strength {post_strength}: of which post, noise or orthogonal?")
    strength = POST_STRENGTHS.get(post, 0.0) if post_strength is None else post_strength
    untile(np.zeros((1, 1), np.float32), "", post, strength, seed)  # says what is wrong before any work is done
    return Options(patterns[0], patterns[1], fallback, post, strength, seed)


def _predict(
    stored: Mapping[str, StoredTensor], graph: ComputationGraph, network: GHN, options: Options
) -> tuple[dict[str, Callable[[], Array]], CoverageReport]:
    """New tensors as functions, so that one at a time is in memory, and the report."""
    from onnx_ghn.prediction.quantization import quantized

    _check_memory(graph, options)
    blocks = network.blocks(graph)
    tensors: dict[str, Callable[[], Array]] = {}
    entries: list[CoverageEntry] = []
    for index, parameter in enumerate(graph.parameters):
        make: Callable[[], Array] | None = None
        outcome: Outcome = "kept"
        reason = parameter.reason
        if parameter.role is Role.statistic:
            outcome = "statistic"
        elif parameter.frozen:
            outcome = "frozen"
        elif not options.wants(parameter.name):
            reason = "left out by --include / --exclude"
        elif index in blocks:
            # Quantised tensors need the float values; any other type is taken on while the block is small.
            dtype = np.dtype(np.float32) if parameter.scale_name is not None else stored[parameter.name].dtype.numpy()
            outcome, make = "predicted", _decoded(parameter, blocks[index], dtype, options)
        elif options.fallback == "standard":
            initial = _initial(parameter, options.seed)
            if initial is not None:
                outcome, make = "fallback", initial
        if make is not None and parameter.kept:
            make = _keeping(make, stored[parameter.name], parameter)
        if make is not None and parameter.scale_name is not None:
            filled = quantized(stored, parameter, make)
            if isinstance(filled, str):
                outcome, reason, make = "kept", filled, None
            else:
                tensors.update(filled)
        elif make is not None:
            tensors[parameter.name] = make
        if outcome == "fallback" and not reason:
            reason = "no node decodes it"
        entries.append(CoverageEntry(parameter, outcome, "" if outcome == "predicted" else reason))
    return tensors, CoverageReport(entries)


def _check_memory(graph: ComputationGraph, options: Options) -> None:
    """One tensor at a time is in memory; a shape that ConstantOfShape declares can be of any size."""
    limit_bytes = memory_bytes()
    for parameter in graph.parameters:
        fixed = parameter.role is Role.statistic or parameter.frozen or not options.wants(parameter.name)
        needed_bytes = 1.25 * 4 * parameter.size  # in float32, with room for the pieces that are written
        if needed_bytes > limit_bytes and not fixed:
            raise GraphError(
                f"parameter {parameter.name!r} of shape {list(parameter.shape)} needs {gib(needed_bytes)} of memory "
                f"and there are {gib(limit_bytes)}: leave it out with --exclude, or take a machine with more"
            )


def _decoded(parameter: Parameter, block: Block, dtype: np.dtype[Any], options: Options) -> Callable[[], Array]:
    if not block.is_tiled or options.post == "none":
        block = dataclasses.replace(block, values=block.values.astype(dtype))
        block.values.flags.writeable = False  # an untiled tensor is a view of it: what a caller does stays his
        return lambda: parameter.layout.from_canonical(block.array())

    def make() -> Array:
        values = untile(block.array(), parameter.name, options.post, options.post_strength, options.seed)
        return parameter.layout.from_canonical(values)

    return make


def _keeping(make: Callable[[], Array], stored: StoredTensor, parameter: Parameter) -> Callable[[], Array]:
    """With the elements that the exported model does not train as they are."""

    def kept() -> Array:
        values = np.array(make(), order="C")
        old = stored.tensor.numpy().reshape(-1)  # of the model as it was read
        flat = values.reshape(-1)
        for first, stop in parameter.kept:
            flat[first:stop] = old[first:stop]
        return values

    return kept


def _initial(parameter: Parameter, seed: int) -> Callable[[], Array] | None:
    if parameter.role is Role.other and parameter.op != "PRelu":
        return None

    def make() -> Array:
        values = standard_init(parameter, seed)
        assert values is not None  # every other role has a standard
        return values

    return make


def _inject(model: ir.Model, tensors: dict[str, Callable[[], Array]], stored: Mapping[str, StoredTensor]) -> None:
    """Put the new tensors into the model, in the types that it stores."""
    from onnx_ghn.onnx_io import inject

    def typed(name: str, make: Callable[[], Array]) -> Callable[[], Array]:
        dtype = stored[name].dtype.numpy()
        return lambda: np.asarray(make()).astype(dtype, copy=False)

    for name in tensors:
        tensors[name] = typed(name, tensors[name])
    inject(model, tensors, stored)
