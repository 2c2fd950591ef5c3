"""What every framework's module offers, made of its adapter, and what the adapters share."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Concatenate, Generic, Protocol, TypeGuard, TypeVar

from onnx_ghn.errors import GraphError, OnnxGhnError, OptionError, did_you_mean
from onnx_ghn.exporters.initializing import Initialization, initialize_live, split_keywords
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.reports import ExportReport, LoadReport
from onnx_ghn.exporters.roundtrip import export_live, load_live
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["Bridge", "check_options", "converting", "input_list", "is_shape", "restored_modes"]

_Model = TypeVar("_Model")
_FRAME = 'File "'  # how each place of a traceback begins
_RAISED = re.compile(r"^\s*\w+(?:Error|Exception): ", re.MULTILINE)  # how its end does


@dataclasses.dataclass(frozen=True)
class Bridge(Generic[_Model]):
    """`export`, `load` and `initialize` for the models that an adapter takes.

    Attributes:
        adapter: makes a `LiveModel` of a model, example inputs and options. Its class says what these may be.
        options: those that the adapter takes beside its own keyword arguments, and hands to the framework's exporter.
    """

    adapter: Callable[Concatenate[_Model, ...], LiveModel]
    options: Collection[str] = ()

    def export(
        self,
        model: _Model,
        path: str | os.PathLike[str],
        example_inputs: object = None,
        *,
        force: bool = False,
        **options: object,
    ) -> ExportReport:
        """Write a model in inference mode as ONNX, with a map of its weights. The model stays as it is.

        Args:
            example_inputs: inputs to run the model on, for frameworks whose models do not know their inputs.
            force: overwrite `path`.
            options: of the framework's exporter.

        Raises:
            GraphError: the framework's exporter cannot export the model.
            ModelWriteError: the file exists, or cannot be written.
            OptionError: it is no model of the framework, lacks inputs or weights, or a package is not installed.
        """
        self._check(options)
        return export_live(self.adapter(model, example_inputs, **options), path, force=force)

    def load(
        self, model: _Model, onnx_path: str | os.PathLike[str], example_inputs: object = None, **options: object
    ) -> LoadReport:
        """Set a model's weights to those of its ONNX file, in place.

        Args:
            example_inputs, options: as for `export`. Only a file that `export` did not write needs them.

        Raises:
            CheckpointError: the file is of another model; this one is unchanged.
            ModelReadError: the file cannot be read.
        """
        self._check(options)
        return load_live(self.adapter(model, example_inputs, **options), onnx_path)

    def initialize(
        self,
        model: _Model,
        example_inputs: object = None,
        options: PredictOptions | None = None,
        *,
        ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
        **keywords: object,
    ) -> Initialization:
        """Fill a model with predicted weights in place: an export, a prediction and a load, of which no file stays.

        Weights that the prediction keeps stay bit for bit.

        Args:
            example_inputs: as for `export`.
            options: how to predict; None takes the defaults.
            ghn: see `onnx_ghn.predict`.
            keywords: single fields of `PredictOptions` (policy, include, exclude, calibrate, seed, …), and options of
                the framework's exporter.

        Returns:
            the coverage of the prediction, and the report that `load` gives.

        Raises:
            OnnxGhnError: see `onnx_ghn.predict` and `export`. The model is then unchanged.
        """
        changes, export_options = split_keywords(keywords)
        self._check(export_options, predicting=True)
        options = PredictOptions.of(options, **changes)
        return initialize_live(self.adapter(model, example_inputs, **export_options), options, ghn)

    def _check(self, options: Iterable[str], *, predicting: bool = False) -> None:
        """Refuse, before anything is imported or made, an option that the adapter has not. Raises OptionError."""
        taken = inspect.signature(self.adapter).parameters
        own = [name for name, parameter in taken.items() if parameter.kind is parameter.KEYWORD_ONLY]
        check_options(options, [*own, *self.options], predicting=predicting)


def check_options(options: Iterable[str], known: Iterable[str], *, predicting: bool = False) -> None:
    """Refuse an option that an export does not have.

    Args:
        options: names that are given for an export.
        known: the options of this framework's exporter.
        predicting: those of a prediction were given beside them, and one of these may have been meant, too.

    Raises:
        OptionError: the first that is not among them, and what may have been meant.
    """
    known = list(known)
    for option in options:
        if option not in known:
            meant = did_you_mean(option, [*known, *(PredictKeywords.__annotations__ if predicting else ())])
            whose = "a prediction, nor of this framework's exporter" if predicting else "this framework's exporter"
            raise OptionError(f"`{option}` is no option of {whose}{meant}")


@contextlib.contextmanager
def converting(name: str, exporter: str) -> Iterator[None]:
    """Tell whatever a foreign model, or its exporter, raises as a GraphError.

    Args:
        name: of the model.
        exporter: the name of the software that exports it.
    """
    try:
        yield
    except OnnxGhnError:
        raise
    except Exception as error:
        raise GraphError(f"{name}: {exporter} cannot export it ({_told(error)})") from error


def _told(error: Exception) -> str:
    """The type and the message of an error; of a message that is itself a traceback (Paddle's), the end of that."""
    text = str(error)
    ends = list(_RAISED.finditer(text)) if _FRAME in text else []
    return text[ends[-1].start() :].strip() if ends else f"{type(error).__name__}: {text}"


def is_shape(value: object) -> TypeGuard[list[int | str | None] | tuple[int | str | None, ...]]:
    """Whether an example input is a shape: sizes, and names or None for free axes."""
    return isinstance(value, list | tuple) and all(n is None or isinstance(n, int | str) for n in value)


def input_list(example_inputs: object) -> list[object]:
    """One example input, or a list or tuple of them, as a list.

    Raises:
        OptionError: there are none.
    """
    if example_inputs is None:
        raise OptionError(
            "the model cannot be exported, be it only to compare it with a file, without inputs: give `example_inputs`"
        )
    if isinstance(example_inputs, list | tuple) and not is_shape(example_inputs):
        return list(example_inputs)
    return [example_inputs]


class _Part(Protocol):
    training: bool


@contextlib.contextmanager
def restored_modes(parts: Iterable[_Part]) -> Iterator[None]:
    """Let each part of a model be in training, or not, as it was before."""
    modes = [(part, part.training) for part in parts]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
