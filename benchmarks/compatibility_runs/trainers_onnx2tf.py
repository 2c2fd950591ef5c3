"""onnx2tf: a Keras model of a predicted file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from compatibility_runs.cells import Cell
from compatibility_runs.given_files import given, trainer_cells
from compatibility_runs.messages import short
from compatibility_runs.rows import Row

__all__ = ["measure"]


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Convert the file; count what the Keras model would train. Images go in with channels last, as the tool has it."""
    import onnx2tf

    files = given(network)
    try:
        model = onnx2tf.convert(  # the default backend gives no Keras model
            input_onnx_file_path=str(files.path),
            output_folder_path=str(folder / "tf"),
            tflite_backend="tf_converter",
            non_verbose=True,
        )
        inputs = [value.transpose(0, 2, 3, 1) if value.ndim == 4 else value for value in files.inputs]
        types = [getattr(spec.dtype, "as_numpy_dtype", spec.dtype) for spec in model.inputs]  # of TensorFlow, by name
        given_inputs = [value.astype(dtype) for value, dtype in zip(inputs, types, strict=True)]
        outputs = model(given_inputs if len(given_inputs) > 1 else given_inputs[0])
        outputs = outputs[0] if isinstance(outputs, list | tuple) else outputs
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", short(error))}
    trained = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return trainer_cells(files, np.asarray(outputs), trained, row.tolerance)
