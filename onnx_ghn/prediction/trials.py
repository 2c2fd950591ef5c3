"""Trial runs of a model by onnxruntime: what its batch norms see, and how large its values are."""

from __future__ import annotations

import dataclasses
import math
import os
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.prediction.calibration_inputs import Feed, input_batches, input_types
from onnx_ghn.prediction.options import DRAWN
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    import onnx_ir as ir
    import onnxruntime

    from onnx_ghn.passes.arithmetic_statistics import ArithmeticNorm
    from onnx_ghn.passes.measuring import Layer
    from onnx_ghn.passes.output_scales import CorrectScales

__all__ = ["Trial", "Trials"]

_FEWEST_SAMPLES = 2  # that can be compared
_MUCH_LARGER = 4  # a batch against the few samples that are tried before it


@dataclasses.dataclass(frozen=True)
class Trial:
    """What a run showed. Scales are root mean squares."""

    statistics: Mapping[str, Array]  # of batch norms, by stored name
    operators: Mapping[int, float]  # scale of each operator's output; see `passes.output_scales`
    outputs: Mapping[str, float]  # scale of each output
    factors: Mapping[str, float]  # by which tensors have to be multiplied, by stored name
    likeness: float = math.nan  # mean cosine between the features of different samples, see `passes.feature_likeness`


class Trials:
    """Runs of one architecture with several sets of weights, all on the same inputs.

    Args:
        source: see `calibration_inputs.input_batches`.
        seed: of the inputs.
        batch: how many samples to take where the model lets us choose.
        norms: batch norms that are written as arithmetic.
        left: names of running statistics by which norms normalise as they are stored.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        seed: int,
        batch: int,
        norms: Sequence[ArithmeticNorm] = (),
        left: Collection[str] = (),
    ) -> None:
        self._norms = norms
        self._left = left
        self._source = source
        self._seed = seed
        self._batch = batch
        self._feeds: list[Feed] | None = None
        self._begun: _Begun | None = None
        self._rows: dict[str, int] = {}

    def run(self, model: ir.Model, correct: CorrectScales | None = None, *, likeness: bool = False) -> Trial:
        """Run a model, whose batch norms normalise by the statistics of the batch.

        Args:
            correct: scale weights on the way. Then the scales of operators are not measured.
            likeness: measure how alike the features of different samples are. Then the scales of operators are not
                measured either.

        Raises:
            OptionError: a folder without images. RuntimeFailure: onnxruntime cannot run the model.
        """
        from onnx_ghn.onnx_io import write_model
        from onnx_ghn.onnx_io.copying import copy_model
        from onnx_ghn.onnx_io.indexed_tables import input_rows
        from onnx_ghn.passes.arithmetic_statistics import UseBatchStatisticsInArithmetic
        from onnx_ghn.passes.batch_statistics import UseBatchStatistics
        from onnx_ghn.passes.feature_likeness import GiveFeatureProducts
        from onnx_ghn.passes.free_batch import FreeBatch
        from onnx_ghn.passes.joined_constants import check_joined_constants
        from onnx_ghn.passes.measuring import mark_stored
        from onnx_ghn.passes.output_scales import MeasureScales
        from onnx_ghn.runtime import open_session

        copy = copy_model(model)
        mark_stored(copy, {name for norm in self._norms for name in (norm.mean, norm.variance)})
        if copy.functions:
            from onnx_ir.passes.common import InlinePass

            InlinePass()(copy)
        check_joined_constants(copy)
        own = {value.name or "" for value in copy.graph.outputs}
        factors = correct.call(copy).factors if correct is not None else {}
        products = GiveFeatureProducts().call(copy).changes if likeness else ()
        scales = MeasureScales(operators=correct is None and not likeness, outputs=own).call(copy)
        shapes = FreeBatch().call(copy).shapes
        written = UseBatchStatisticsInArithmetic(self._norms).call(copy)
        norms = UseBatchStatistics(self._left).call(copy)
        wanted = list(dict.fromkeys((*norms.changes, *written.changes, *factors.values(), *scales.changes, *products)))
        if not wanted:
            return Trial({}, {}, {}, {})
        if self._feeds is None:
            self._rows = input_rows(copy)
        if self._feeds is None and self._begun is None and str(self._source) in DRAWN:
            types = input_types(copy)
            if types is not None:
                self._begun = _Begun(types, self._rounds(types, shapes))
        try:
            with scratch_folder() as folder:
                # Beside the model, onnxruntime maps weights into memory; within it, it reads and copies them.
                write_model(copy, path := Path(folder) / "model.onnx", external=True, scratch=True)
                runs = self._run(open_session(path, packed=False), shapes, wanted)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise RuntimeFailure(
                f"calibration has no room for temporary files ({reason}); set TMPDIR or choose `calibrate` none"
            ) from error
        return Trial(
            _pooled([*norms.layers, *written.layers], runs),
            {number: _root_mean_square(run[name] for run in runs) for number, name in scales.operators.items()},
            {output: _root_mean_square(run[name] for run in runs) for output, name in scales.outputs.items()},
            {stored: float(np.exp(np.mean([np.log(run[name]) for run in runs]))) for stored, name in factors.items()},
            self._likeness([run[name] for run in runs for name in products]),
        )

    def _run(
        self, session: onnxruntime.InferenceSession, shapes: dict[str, list[int]], wanted: Sequence[str]
    ) -> list[dict[str, Array]]:
        """What the wanted outputs give on each batch of the first round of inputs that the model takes."""
        from onnx_ghn.runtime import run_session

        rounds: Iterable[list[Feed]] = [self._feeds] if self._feeds is not None else ()
        if self._feeds is None:
            types = {entry.name: entry.type for entry in session.get_inputs()}
            is_begun = self._begun is not None and list(self._begun.types.items()) == list(types.items())
            rounds = self._begun.rounds() if self._begun and is_begun else self._rounds(types, shapes)
            self._begun = None
        failure: RuntimeFailure | None = None
        for feeds in rounds:
            try:
                if self._feeds is None and (few := _few(feeds[0], shapes)) is not None:
                    run_session(session, few, wanted)
                runs = [dict(zip(wanted, run_session(session, feed, wanted), strict=True)) for feed in feeds]
            except RuntimeFailure as error:
                failure = failure or error
            else:
                self._feeds = feeds
                return runs
        raise RuntimeFailure(f"calibration: {failure}; choose `calibrate` none, or give images") from failure

    def _likeness(self, products: Sequence[Array]) -> float:
        """Mean cosine between the samples of each run; nan where features have other rows, of tokens or of pixels."""
        sizes = [{len(values) for values in feed.values() if values.ndim} for feed in self._feeds or ()]
        if not products or any({len(each)} != size for each, size in zip(products, sizes, strict=True)):
            return math.nan
        return float(np.mean([_mean_cosine(each) for each in products]))

    def _rounds(self, types: Mapping[str, str], shapes: dict[str, list[int]]) -> Iterator[list[Feed]]:
        return input_batches(types, shapes, self._source, self._seed, self._batch, self._rows)


class _Begun:
    """Rounds of inputs of which the first is drawn in a thread, while the model is written and loaded.

    Attributes:
        types: of the inputs, in their order.
    """

    def __init__(self, types: Mapping[str, str], rounds: Iterator[list[Feed]]) -> None:
        self.types = types
        self._rounds = rounds
        self._first: list[list[Feed]] = []
        self._errors: list[BaseException] = []
        self._thread = threading.Thread(target=self._draw, name="onnx-ghn inputs", daemon=True)
        self._thread.start()

    def _draw(self) -> None:
        try:
            self._first.append(next(self._rounds))
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._errors.append(error)

    def rounds(self) -> Iterator[list[Feed]]:
        """All of them, once. What drawing the first raised is raised here."""
        self._thread.join()
        if self._errors:
            raise self._errors[0]
        yield from self._first
        yield from self._rounds


def _few(feed: Feed, shapes: Mapping[str, list[int]]) -> Feed | None:
    """The first samples of a batch that is much larger than the file declares: twice as many as it declares.

    A network for batches of one size alone refuses them as it refuses the batch, mostly at its end, and sooner. None
    where the file declares no size, or where there is little to save.
    """
    sizes = {shape[0] for name, shape in shapes.items() if shape and name in feed} - {0}
    batches = {len(values) for values in feed.values() if values.ndim}
    if len(sizes) != 1 or len(batches) != 1:
        return None
    few, batch = 2 * sizes.pop(), batches.pop()
    if batch < _MUCH_LARGER * few:
        return None
    return {name: values[:few] if values.ndim else values for name, values in feed.items()}


def _root_mean_square(scales: Iterable[Array]) -> float:
    return float(np.sqrt(np.mean(np.square(np.array([float(scale) for scale in scales])))))


def _mean_cosine(products: Array) -> float:
    """Between different rows of features, of whose inner products (N, N) are given; nan for fewer than two rows.

    A row of zeros is like any other.
    """
    lengths = np.sqrt(np.diagonal(products).astype(np.float64))
    n = len(lengths)
    if n < _FEWEST_SAMPLES:
        return math.nan
    scale = np.outer(lengths, lengths)
    cosines = np.where(scale > 0, products / np.where(scale > 0, scale, 1), 1.0)
    return float((cosines.sum() - np.trace(cosines)) / (n * (n - 1)))


def _pooled(layers: Sequence[Layer], runs: list[dict[str, Array]]) -> dict[str, Array]:
    """Mean and variance over all batches, and over all layers that share a statistic."""
    means: dict[str, list[Array]] = {}
    squares: dict[str, list[Array]] = {}
    mean_of: dict[str, str] = {}
    for layer in layers:
        for run in runs:
            mean, variance = (run[name].astype(np.float64) for name in layer.outputs)
            square = variance + mean**2
            if layer.n_channels:  # those of each image: (images·channels,) -> (channels,)
                mean, square = (values.reshape(-1, layer.n_channels).mean(0) for values in (mean, square))
            means.setdefault(layer.mean, []).append(mean)
            squares.setdefault(layer.variance, []).append(square)
        mean_of[layer.variance] = layer.mean
    pooled = {name: np.mean(found, axis=0) for name, found in means.items()}
    for name, found in squares.items():
        pooled[name] = np.maximum(np.mean(found, axis=0) - pooled[mean_of[name]] ** 2, 0)
    return pooled
