"""The whole of it: read -> convert -> check -> train -> inject -> write -> judge."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from pathlib import Path
from typing import TypedDict, Unpack

import numpy as np
import torch

from onnx_ghn.arrays import Array
from onnx_ghn.errors import DataError, OptionError, RuntimeFailure
from onnx_ghn.evaluate import Accuracy, accuracy, onnx_logits
from onnx_ghn.finetuning.chance import chance_note
from onnx_ghn.finetuning.conversion import Classifier, as_classifier
from onnx_ghn.finetuning.copies import tell_copies_apart
from onnx_ghn.finetuning.endings import Ending, are_probabilities, between_zero_and_one
from onnx_ghn.finetuning.images import Images, load_images
from onnx_ghn.finetuning.settings import FinetuneOptions
from onnx_ghn.images.inputs import ImageInput, image_input
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import check_target, inject, read_model, stored_tensors, write_model
from onnx_ghn.passes import UntieMergedTensors
from onnx_ghn.runtime import open_session
from onnx_ghn.training.classifiers import classifier_step
from onnx_ghn.training.logs import Report
from onnx_ghn.training.loop import TrainingLoop
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.schedule import cosine
from onnx_ghn.training.state import Settings, TrainingState

__all__ = ["FinetuneResult", "Finetuning", "finetune", "square_input"]

_JUDGED_TOGETHER = 64
_CHECKED = 4  # images on which torch and onnxruntime must agree
_RTOL, _ATOL = 1e-3, 1e-4  # of the largest logit: float32 sums in another order


class FinetuneFiles(TypedDict, total=False):
    """Keyword arguments of `finetune` beside its options."""

    data_dir: str | os.PathLike[str]
    run_folder: str | os.PathLike[str] | None
    force: bool


@dataclasses.dataclass(frozen=True)
class FinetuneResult:
    """What came of it. Accuracies are of the files, through onnxruntime, on the held-out images."""

    output: str
    before: Accuracy
    after: Accuracy
    n_trained: int  # tensors
    n_statistics: int  # running means and variances that moved
    n_images: int  # to train on
    steps: int
    figures: dict[str, float]  # means over the last steps: loss, top1, ...
    notes: tuple[str, ...]

    def to_dict(self) -> Json:
        """As plain values."""
        return dataclasses.asdict(self)


class Finetuning:
    """A file and its images, converted, checked and ready; `run` trains and writes.

    Attributes:
        loop: says how many steps there are, and where the run is.
        resumed: whether it goes on with an interrupted run.
        notes: what the user should know.
        images: that it is trained and judged on.

    Args:
        images: already read; None reads them.

    The others, raises: see `finetune`.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        data: str | os.PathLike[str],
        output: str | os.PathLike[str],
        options: FinetuneOptions | None = None,
        *,
        data_dir: str | os.PathLike[str] = "./data",
        run_folder: str | os.PathLike[str] | None = None,
        force: bool = False,
        images: Images | None = None,
    ) -> None:
        options = options or FinetuneOptions()
        self._path, self._target, self._force = os.fspath(source), os.fspath(output), force
        check_target(self._target, force, inputs=[data])
        if os.path.realpath(self._path) == os.path.realpath(self._target):
            raise OptionError(f"{self._target}: is the file to be read; name another one for the result")
        read_model(self._path)  # refuses what is absent, unsafe or damaged, before onnxruntime sees it
        given = square_input(self._path)
        self._net, self._rewritten = as_classifier(self._path, freeze=options.freeze, train=options.train)
        self._net.given = given
        self.images = images or load_images(os.fspath(data), data_dir, given.height, options.val, options.seed)
        notes = [*self._rewritten.notes, *_check_agreement(self._path, self._net, given.batch or 1, self.images)]
        apart, found = tell_copies_apart(
            self._net.trained(), self._rewritten.parameters, self._rewritten.model, self._rewritten.names, options.seed
        )
        self._net.set_trained(apart)
        self.notes = (*notes, *found)
        self._net.to(options.device)
        self._device = options.device
        folder = None if run_folder is None else Path(run_folder)
        self.loop = _loop(self._net, self.images, options, self._path, folder)
        self.resumed = self.loop.resume()

    @functools.cached_property
    def before(self) -> Accuracy:
        """Of the file as it is."""
        return _judge(self._path, self.images)

    def judge(self) -> Accuracy:
        """Of the network as it is trained by now, on the held-out images, by torch."""

        @torch.no_grad()
        def logits(images: torch.Tensor) -> torch.Tensor:
            values: torch.Tensor = self._net.eval().outputs(images.to(self._device)).cpu()  # (B, classes)
            return values

        return accuracy(logits, self.images.judging(_JUDGED_TOGETHER))

    def run(self, report: Report | None = None, until: int | None = None) -> FinetuneResult:
        """Train to the last step (or `until`), write the file, judge it.

        Args:
            report: is called after each step.
            until: stop after this step for now.
        """
        try:
            figures = self.loop.run(report, until)
        except (RuntimeError, ValueError) as error:
            reason = " ".join(str(error).split())[:300]
            raise RuntimeFailure(f"{self._path}: torch cannot train it ({reason}); try another `batch_size`") from error
        model = read_model(self._path)
        UntieMergedTensors()(model)  # as it was for training: merged tensors have names of their own then
        arrays = self._net.arrays()
        stored = stored_tensors(model)
        n_moved = sum(not np.array_equal(arrays[name], stored[name].numpy()) for name in self._rewritten.moved)
        inject(model, {name: functools.partial(arrays.__getitem__, name) for name in arrays})
        write_model(model, self._target, force=self._force)
        after = _judge(self._target, self.images)
        note = chance_note(after, len(self.images.train.classes))
        return FinetuneResult(
            output=self._target,
            before=self.before,
            after=after,
            n_trained=len(self._rewritten.trained),
            n_statistics=n_moved,
            n_images=len(self.images.train),
            steps=self.loop.step,
            figures=figures,
            notes=self.notes if note is None else (*self.notes, note),
        )


def square_input(path: str) -> ImageInput:
    """How a file takes images. Raises OptionError: they are not square. RuntimeFailure: onnxruntime cannot load it."""
    given = image_input((value.name, value.shape) for value in open_session(path).get_inputs())
    if given.height != given.width:
        size = f"{given.height or '?'} × {given.width or '?'}"
        raise OptionError(
            f"{path}: takes {size}; finetune feeds square images: export it with such a size, or a free one"
        )
    return given


def finetune(
    source: str | os.PathLike[str],
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: FinetuneOptions | None = None,
    **files: Unpack[FinetuneFiles],
) -> FinetuneResult:
    """Train an ONNX classifier of images, and write it with its new tensors: same graph, same names.

    Args:
        source: the file; its one input is N × 3 × H × W or N × H × W × 3, its first output N × classes, logits
            or probabilities.
        data: see `load_images`; `data_dir` is where named data sets lie.
        output: where to write.
        files: `data_dir` ("./data"); `run_folder` of the log, and of a state from which a run that was killed goes on
            (none: neither is kept); `force` overwrites `output`.

    Raises:
        OnnxGhnError: OptionError, DataError, ModelReadError, GraphError, RuntimeFailure, CheckpointError,
            ModelWriteError.
    """
    return Finetuning(source, data, output, options, **files).run()


#: Options that change what a run computes, as its state records them; the others are part of its origin.
_RECORDED = ("opt", "lr", "wd", "grad_clip", "label_smoothing", "amp", "seed", "save_interval", "log_interval")


def _loop(net: Classifier, images: Images, options: FinetuneOptions, path: str, folder: Path | None) -> TrainingLoop:
    stream = images.stream(options.batch_size, options.seed, augment=options.augment)
    steps = options.steps or options.epochs * stream.steps_per_epoch
    choices = (options.batch_size, options.augment, options.freeze, options.train, options.val, len(images.train))
    digest = hashlib.sha256(repr((_digest(path), choices, images.train.classes)).encode()).hexdigest()[:16]
    settings = {"steps": steps, **{name: getattr(options, name) for name in _RECORDED}}
    settings["origin"] = f"{os.path.basename(path)} and its images ({digest})"
    optimizers = Optimizers(net, options)

    def train_step(step: int) -> dict[str, float]:
        return classifier_step(net, optimizers, stream, step, amp=options.amp, label_smoothing=options.label_smoothing)

    state = TrainingState(net, optimizers, {"settings": Settings(settings)})
    return TrainingLoop(
        train_step,
        cosine(options.lr, steps),
        state,
        options,
        steps=steps,
        folder=folder,
        weights_name="net.safetensors",
    )


def _digest(path: str) -> str:
    """A digest of the .onnx file's bytes, with the sizes and times of the files of weights beside it."""
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    beside = sorted(
        (entry.name, entry.stat().st_size, entry.stat().st_mtime_ns)
        for entry in os.scandir(os.path.dirname(path) or os.curdir)
        if entry.is_file() and entry.name.startswith(f"{os.path.basename(path)}.")
    )
    return f"{digest} {beside}"


def _judge(path: str, images: Images) -> Accuracy:
    with onnx_logits(path, threads=torch.get_num_threads()) as logits:
        return accuracy(logits, images.judging(_JUDGED_TOGETHER))


def _check_agreement(path: str, net: Classifier, batch: int, images: Images) -> list[str]:
    """The converted module computes what the file does, and `net` learns if that gives probabilities.

    Returns:
        notes for the user.

    Raises:
        RuntimeFailure, DataError: it does not.
    """
    some, _ = next(iter(images.judging(max(_CHECKED, batch))))
    with onnx_logits(path, threads=torch.get_num_threads()) as logits:
        theirs = logits(some).double().numpy()  # (B, classes)
    if theirs.ndim != 2:
        raise RuntimeFailure(f"{path}: its first output is {theirs.shape}; finetune needs N × classes")
    n_classes = len(images.train.classes)
    if theirs.shape[1] != n_classes:
        raise DataError(
            f"{path} tells {theirs.shape[1]} classes apart, the images are of {n_classes}; export the model with "
            f"{n_classes} outputs, or give images of its own classes"
        )
    try:
        with torch.no_grad():
            ours = net.eval().outputs(some).double().numpy()
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise RuntimeFailure(
            f"{path}: torch cannot run what onnx2fx made of it ({reason}); export it with a free batch size"
        ) from error
    difference = float(np.abs(ours - theirs).max())
    if not difference <= _ATOL + _RTOL * float(np.abs(theirs).max()):
        raise RuntimeFailure(
            f"{path}: onnx2fx made something else of it (outputs differ by {difference:.3g}); train it in its "
            "own framework"
        )
    return _name_ending(net, theirs)


def _name_ending(net: Classifier, outputs: Array) -> list[str]:
    """Probabilities that no operator at the end gives away, decomposed ones for instance, show in the numbers."""
    if net.ending is Ending.none and are_probabilities(outputs):
        net.ending = Ending.probabilities
    if net.ending in (Ending.sigmoid, Ending.probabilities):
        return ["its outputs are probabilities: the loss takes their logarithms"]
    if net.ending is Ending.none and between_zero_and_one(outputs):
        return [
            "its outputs lie between 0 and 1 and do not sum to 1: the loss takes them for logits; if they are "
            "probabilities, export the model without its last activation"
        ]
    return []
