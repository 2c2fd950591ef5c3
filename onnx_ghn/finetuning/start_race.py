"""A race of starts on a file itself: each trained for the same steps on some labelled images, and the winner written.

Early accuracies deceive (a race of a tenth of a training picks wrongly by tens of points), so each start gets at least
a quarter of the time, and what is not clearly better than the author's start loses to it.
"""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from onnx_ghn.errors import OptionError, RuntimeFailure
from onnx_ghn.finetuning.images import load_images
from onnx_ghn.finetuning.settings import StartOptions
from onnx_ghn.finetuning.tuning import Finetuning, square_input
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import check_target
from onnx_ghn.prediction.options import PolicyName, PredictOptions
from onnx_ghn.prediction.predicting import predict, resolve_ghn
from onnx_ghn.prediction.result import Prediction
from onnx_ghn.progress import Bar, no_bar
from onnx_ghn.scratch import scratch_folder

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["Entrant", "StartRace", "choose_start"]

_POLICIES: tuple[PolicyName, ...] = ("none", "auto", "early")  # the author's start comes first, and wins ties
_TIMED = 3  # steps that show how long one takes, after one that warms up
_FEWEST = 8  # steps that a race must have
_KEPT_BACK = 0.15  # of the time, for machines that slow down
_BATCHES = 4  # in a pass over the images, at least
_CHUNKS = 16  # in how many turns the entrants are trained side by side


@dataclasses.dataclass(frozen=True)
class Entrant:
    """A start in a race.

    Attributes:
        policy: of `predict`; `none` is the author's start.
        n_predicted: tensors that the GHN filled.
        n_scaled: tensors that keep their start but for one factor each.
        top1: accuracy in percent on the held-out images after the race's steps; None where training failed.
        failure: why it did.
    """

    policy: PolicyName
    n_predicted: int
    top1: float | None
    failure: str = ""
    n_scaled: int = 0


@dataclasses.dataclass(frozen=True)
class StartRace:
    """What came of a race.

    Attributes:
        chosen: the winner's policy.
        prediction: the winner, which is what is written.
        entrants: all of them, the author's start first.
        steps: that each was trained for.
        n_images: held-out images that they were judged on.
        margin: by how many points a start must be better than the author's: one standard error of the difference.
        seconds: that the race took.
    """

    chosen: PolicyName
    prediction: Prediction = dataclasses.field(repr=False)
    entrants: tuple[Entrant, ...]
    steps: int
    n_images: int
    margin: float
    seconds: float

    def to_dict(self) -> Json:
        """For JSON."""
        return {
            "chosen": self.chosen,
            "entrants": [dataclasses.asdict(entrant) for entrant in self.entrants],
            "steps": self.steps,
            "n_images": self.n_images,
            "margin": self.margin,
            "seconds": self.seconds,
        }


def choose_start(
    source: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
    budget_s: float = 120.0,
    data_dir: str | os.PathLike[str] = "./data",
    force: bool = False,
    options: PredictOptions | None = None,
    training: StartOptions | None = None,
    bar: Bar = no_bar,
) -> StartRace:
    """Train the starts that a file can have for a while, each on the same images, and take the best.

    Args:
        source: a classifier of images, as `finetune` takes it.
        data: class folders or a zip archive of them, as `finetune` takes them; a part of the training images is held
            out (`val`), and test images are not touched.
        output: where to write the winner, untrained; None writes nothing.
        ghn: see `predict`.
        budget_s: seconds that the race may take.
        data_dir: where named data sets lie.
        force: overwrite `output`.
        options: how to predict; their policy plays no part, and they name no donors. Statistics and scales are measured
            on `data`, unless `calibrate` names other inputs.
        training: how to train.
        bar: opens a progress bar.

    Raises:
        OptionError: too little time for a race, or options with donors. Also what `predict` and `finetune` raise; a
            start whose training fails loses.
    """
    begun = time.monotonic()
    if not (math.isfinite(budget_s) and budget_s > 0):
        raise OptionError(f"`budget_s` {budget_s} must be more than 0")
    options = PredictOptions.of(options)
    if options.donors:
        raise OptionError(
            "`donors` have no place in a race of the GHN's starts against the author's: all would hold their weights; "
            "leave them out, or use `predict`"
        )
    if options.calibrate == PredictOptions().calibrate and os.path.exists(data):
        options = dataclasses.replace(options, calibrate=data)
    if output is not None:
        check_target(os.fspath(output), force, inputs=(source, data, ghn))
    network, training = resolve_ghn(ghn), training or StartOptions()
    predictions = _candidates(source, network, options)
    if len(predictions) == 1:  # no policy predicts or scales anything
        (prediction,) = predictions.values()
        if output is not None:
            prediction.save(output, force=force)
        return StartRace("none", prediction, (Entrant("none", 0, None),), 0, 0, 0.0, time.monotonic() - begun)
    with scratch_folder() as folder:
        paths = {policy: f"{folder}/{policy}.onnx" for policy in predictions}
        for policy, prediction in predictions.items():
            prediction.save(paths[policy])
        race = _Race(paths, os.fspath(data), data_dir, training, f"{folder}/trained.onnx")
        steps = race.train(begun, budget_s, bar)
        judged = race.judge()
    n_images = race.n_images
    margin = _margin(judged["none"][0], n_images)
    chosen = _winner({policy: top1 for policy, (top1, _) in judged.items()}, margin)
    if output is not None:
        predictions[chosen].save(output, force=force)
    entrants = tuple(
        Entrant(policy, prediction.coverage.count("predicted"), *judged[policy], n_scaled=prediction.coverage.n_scaled)
        for policy, prediction in predictions.items()
    )
    seconds = time.monotonic() - begun
    return StartRace(chosen, predictions[chosen], entrants, steps, n_images, margin, seconds)


def _candidates(
    source: str | os.PathLike[str], ghn: GHN | ArrayGHN, options: PredictOptions
) -> dict[PolicyName, Prediction]:
    """The starts that differ in what is predicted, or in whether layers are scaled, the author's first."""
    found: dict[PolicyName, Prediction] = {}
    seen: list[frozenset[tuple[str, float]]] = []
    for policy in _POLICIES:
        prediction = predict(source, ghn=ghn, options=options, policy=policy)
        entries = prediction.coverage.entries
        filled = frozenset((e.parameter.name, e.factor) for e in entries if e.outcome == "predicted" or e.factor != 1)
        if filled not in seen:
            seen.append(filled)
            found[policy] = prediction
    return found


class _Race:
    """The starts of a file, trained side by side, so that they can end together whenever time is up."""

    def __init__(
        self,
        paths: Mapping[PolicyName, str],
        data: str,
        data_dir: str | os.PathLike[str],
        options: StartOptions,
        scratch: str,
    ) -> None:
        self._paths, self._data, self._scratch = paths, data, scratch
        side = square_input(paths["none"]).height
        self._images = load_images(data, data_dir, side, options.val, options.seed)
        batch_size = min(options.batch_size, max(2, len(self._images.train) // _BATCHES))
        self._options = dataclasses.replace(options, batch_size=batch_size)
        self._runs: dict[PolicyName, Finetuning] = {}
        self._failures: dict[PolicyName, str] = {}
        self.n_images = 0

    def train(self, begun: float, budget_s: float, bar: Bar) -> int:
        """Train all of them as long as the budget allows; the number of steps that each had."""
        first = next(iter(self._paths))
        ready_s, step_s = self._timed(first)
        left_s = (1 - _KEPT_BACK) * budget_s - (time.monotonic() - begun)
        n = len(self._paths)
        steps = int((left_s / n - 2 * ready_s) / step_s)  # judging takes about as long as making ready
        if steps < _FEWEST:
            needed_s = (time.monotonic() - begun + n * (2 * ready_s + _FEWEST * step_s)) / (1 - _KEPT_BACK)
            raise OptionError(
                f"`budget_s` {budget_s:g} leaves {max(steps, 0)} steps for each of {n} starts, and a race needs "
                f"{_FEWEST}: give it {math.ceil(needed_s)} at least"
            )
        for policy in self._paths:
            self._runs[policy] = self._made(policy, steps)
        done = 0
        with bar("racing starts", steps) as advance:
            for turn in range(1, _CHUNKS + 1):
                until, since = steps * turn // _CHUNKS, time.monotonic()
                for policy, run in self._runs.items():
                    self._advance(policy, run, until)
                advance(until - done)
                done, turn_s = until, time.monotonic() - since
                if time.monotonic() - begun + turn_s + n * ready_s > budget_s:
                    break
        return done

    def judge(self) -> dict[PolicyName, tuple[float | None, str]]:
        """Accuracy of each on the held-out images, or None and why it has none."""
        judged: dict[PolicyName, tuple[float | None, str]] = {}
        for policy, run in self._runs.items():
            top1 = None
            if policy not in self._failures:
                try:
                    after = run.judge()
                    top1, self.n_images = after.top1, after.n_images
                except RuntimeFailure as error:
                    self._failures[policy] = str(error)
            judged[policy] = (top1, self._failures.get(policy, ""))
        return judged

    def _advance(self, policy: PolicyName, run: Finetuning, until: int) -> None:
        if policy in self._failures:
            return
        try:
            run.loop.run(until=until)
        except RuntimeFailure as error:
            self._failures[policy] = str(error)

    def _timed(self, policy: PolicyName) -> tuple[float, float]:
        """Seconds to make a start ready, and seconds of a step."""
        start = time.monotonic()
        run = self._made(policy, _TIMED + 1)
        ready = time.monotonic()
        run.loop.run(until=1)
        warm = time.monotonic()
        run.loop.run()
        return ready - start, (time.monotonic() - warm) / _TIMED

    def _made(self, policy: PolicyName, steps: int) -> Finetuning:
        options = dataclasses.replace(self._options, steps=steps)
        return Finetuning(
            self._paths[policy],
            self._data,
            self._scratch,
            options,
            force=True,
            images=self._images,
        )


def _margin(top1: float | None, n_images: int) -> float:
    """One standard error of the difference of two accuracies near `top1`, in points."""
    share = 0.5 if top1 is None else min(max(top1 / 100, 1 / max(n_images, 1)), 1 - 1 / max(n_images, 1))
    return 100 * math.sqrt(2 * share * (1 - share) / max(n_images, 1))


def _winner(top1: Mapping[PolicyName, float | None], margin: float) -> PolicyName:
    """The best; one that is not clearly better than the author's start loses to it."""
    own = top1["none"]
    trained = [(value, policy) for policy, value in top1.items() if value is not None]
    if not trained:
        return "none"
    best, policy = max(trained, key=lambda pair: pair[0])
    return policy if own is None or best > own + margin else "none"
