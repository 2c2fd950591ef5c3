"""onnxruntime-training: artifacts of a predicted file, and its module in evaluation."""

from __future__ import annotations

from pathlib import Path

import onnx

from compatibility_runs.cells import Cell
from compatibility_runs.given_files import given, trainer_cells
from compatibility_runs.messages import short
from compatibility_runs.rows import Row
from compatibility_runs.running_files import run

__all__ = ["measure"]


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """Make artifacts that train what we call trainable, and run the model of evaluation."""
    from onnxruntime.training import artifacts

    files = given(network)
    model = onnx.load(files.path)
    trained = [tensor.name for tensor in model.graph.initializer if tensor.name in files.trained]
    try:
        artifacts.generate_artifacts(
            model, requires_grad=trained, loss=artifacts.LossType.MSELoss, artifact_directory=str(folder)
        )
        from onnxruntime.training.api import CheckpointState, Module

        state = CheckpointState.load_checkpoint(str(folder / "checkpoint"))
        module = Module(str(folder / "training_model.onnx"), state, str(folder / "eval_model.onnx"))
        n_trained = module.get_parameters_size(trainable_only=True)
        module.export_model_for_inferencing(str(folder / "inference.onnx"), [model.graph.output[0].name])
    except Exception as error:  # noqa: BLE001 - of foreign software; the cell tells it
        return {"outputs": Cell("refused", short(error))}
    return trainer_cells(files, run(folder / "inference.onnx", files.inputs), n_trained, row.tolerance)
