"""A callback of Keras that fills a model with predicted weights before its first step of training.

from onnx_ghn.exporters.keras_callback import PredictedWeights
model.fit(x, y, callbacks=[PredictedWeights()])
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

import numpy as np

from onnx_ghn.exporters.initializing import Initialization
from onnx_ghn.exporters.keras import initialize
from onnx_ghn.installing import require
from onnx_ghn.prediction.options import PredictKeywords, PredictOptions

require("keras", "keras")  # before the import below, which would not say how to install it

import keras  # noqa: E402

if TYPE_CHECKING:
    from onnx_ghn.ghn import GHN, ArrayGHN

__all__ = ["PredictedWeights", "first_touched"]

logger = logging.getLogger(__name__)

_RTOL, _ATOL = 1e-5, 1e-7  # an initializer that a compiled function called may round otherwise


class PredictedWeights(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no types
    """Fills the model that is trained with predicted weights when training begins, if nobody has touched its weights.

    Weights that were trained or loaded stay as they are, and a warning says so: they are those that their layer's
    initializer does not give, and those of a model whose optimizer has taken a step.

    Attributes:
        report: what was predicted; None before training begins, and where the weights stayed as they were.

    Args:
        options: how to predict; None takes the defaults.
        example_inputs: inputs to call the model on, or their shape. Only a model that does not know its own needs them.
        ghn: see `onnx_ghn.predict`.
        untouched_only: leave weights alone that were trained or loaded.
        changes: single fields of `PredictOptions`.

    Raises:
        OptionError: options that make no sense.
    """

    def __init__(
        self,
        options: PredictOptions | None = None,
        *,
        example_inputs: object = None,
        ghn: str | os.PathLike[str] | GHN | ArrayGHN | None = None,
        untouched_only: bool = True,
        **changes: Unpack[PredictKeywords],
    ) -> None:
        super().__init__()
        self.report: Initialization | None = None
        self._options = PredictOptions.of(options, **changes)
        self._inputs, self._ghn, self._untouched_only = example_inputs, ghn, untouched_only

    def on_train_begin(self, logs: object = None) -> None:
        """Fill the model. Raises OnnxGhnError; the model is then unchanged."""
        touched = first_touched(self.model) if self._untouched_only else None
        if touched is not None:
            logger.warning(
                "%s keeps its weights: %s; `untouched_only=False` fills it all the same", self.model.name, touched
            )
            return
        self.report = initialize(self.model, self._inputs, self._options, ghn=self._ghn)


def first_touched(model: keras.Model) -> str | None:
    """What shows that a model's weights are not those that its initializers gave; None where nothing does.

    An initializer of Keras 3 gives the same values each time that it is called, unless a SeedGenerator is its seed:
    then each call draws others, and a further layer would get what follows. Such an initializer is not called: its
    weights show nothing, nor do those whose initializer is not at hand (attention's projections, recurrent cells).
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and int(optimizer.iterations) > 0:
        return f"its optimizer is at step {int(optimizer.iterations)}"
    for weight, initializer in _initialized(model):
        values = keras.ops.convert_to_numpy(weight)
        start = keras.ops.convert_to_numpy(initializer(weight.shape, dtype=weight.dtype))
        if not np.allclose(values, start, _RTOL, _ATOL):
            return f"{weight.path} is not what its initializer gives"
    return None


def _initialized(model: keras.Model) -> Iterator[tuple[keras.Variable, keras.Initializer]]:
    """The weights whose initializers their layers hold."""
    for layer in model._flatten_layers(include_self=False, recursive=True):
        # Copies of an initializer, made from its settings, draw other values; a recurrent bias begins at 0 and 1.
        if isinstance(layer, keras.layers.EinsumDense) or hasattr(layer, "recurrent_initializer"):
            continue
        for weight in (*layer._trainable_variables, *layer._non_trainable_variables):
            initializer = getattr(layer, f"{weight.name}_initializer", None)
            if isinstance(initializer, keras.Initializer) and not _draws_anew(initializer):
                yield weight, initializer


def _draws_anew(initializer: keras.Initializer) -> bool:
    """Whether each call of an initializer moves a generator on, its own or one that others draw from, too."""
    return any(isinstance(value, keras.random.SeedGenerator) for value in vars(initializer).values())
