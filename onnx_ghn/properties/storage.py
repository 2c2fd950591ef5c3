"""Predictors in files: predictor.safetensors and predictor.json, no pickle."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError
from onnx_ghn.json_types import Json
from onnx_ghn.properties.features import STATISTICS, Floats
from onnx_ghn.properties.predictor import PropertyPredictor
from onnx_ghn.properties.regression import Regression
from onnx_ghn.reading import read_regular
from onnx_ghn.shipped import shipped_checkpoints

__all__ = ["DEFAULT", "load_predictor", "save_predictor"]

DEFAULT = "properties-cifar10"
_TENSORS, _REPORT = "predictor.safetensors", "predictor.json"
_FORMAT = 1
_MAX_BYTES = 2**28
_ARRAYS = ("mean", "scale", "support", "dual")
_NUMBERS = ("intercept", "gamma", "target_mean", "target_scale", "margin")
#: What of a GHN only decodes: a predictor needs none of it.
_DECODES = ("decoder.", "decoder_1d.", "bias_class.", "dirac.")


def save_predictor(predictor: PropertyPredictor, folder: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write a predictor into a folder (made if absent); the same one gives the same bytes.

    Raises:
        ModelWriteError: it cannot be written, or is there already.
    """
    from safetensors.numpy import save

    from onnx_ghn.errors import ModelWriteError
    from onnx_ghn.onnx_io.transaction import Transaction, check_target

    home = Path(folder)
    for name in (_REPORT, _TENSORS):
        if os.path.lexists(home / name):
            check_target(home / name, force, "a predictor")
    tensors: dict[str, Array] = {"seen": np.asarray(predictor.seen, np.float64)}
    entries = {}
    for name, one in predictor.regressions.items():
        tensors |= {f"{name}.{key}": np.asarray(getattr(one, key), np.float64) for key in _ARRAYS}
        numbers = {key: float(getattr(one, key)) for key in _NUMBERS}
        entries[name] = {"columns": list(one.columns), "log": one.log, **numbers}
    for name, tensor in predictor.ghn.arrays().items():
        if not name.startswith(_DECODES):
            tensors[f"ghn.{name}"] = tensor
    record = {
        "format": _FORMAT,
        "statistics": list(STATISTICS),
        "regressions": entries,
        "ghn": dataclasses.asdict(predictor.ghn.config),
        "report": dict(predictor.report),
    }
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelWriteError(f"{home}: cannot be made ({error.strerror}); name another folder") from error
    with Transaction(os.fspath(home / _REPORT)) as transaction:
        first, last = transaction.create(_TENSORS), transaction.create(_REPORT)
        first.write(save({name: np.ascontiguousarray(tensor) for name, tensor in sorted(tensors.items())}))
        last.write((json.dumps(record, indent=2) + "\n").encode())
        transaction.place(first, _TENSORS, last=False)
        transaction.place(last, _REPORT, last=True)
    return home


def load_predictor(source: str | os.PathLike[str] | None = None) -> PropertyPredictor:
    """A predictor.

    Args:
        source: a folder, or the name of a bundled one; the bundled default unless told.

    Raises:
        CheckpointError: absent, damaged, or of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    folder = _folder(os.fspath(source) if source is not None else DEFAULT)
    try:
        record = json.loads(read_regular(folder / _REPORT, _MAX_BYTES))
        tensors = load(read_regular(folder / _TENSORS, _MAX_BYTES))
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise CheckpointError(f"{folder}: not a readable predictor ({error}); copy it again") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT or record.get("statistics") != list(STATISTICS):
        raise CheckpointError(f"{folder}: a predictor of another version; fit it again, or take the bundled one")
    try:
        return _assemble(record, tensors)
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"{folder}: a damaged predictor ({type(error).__name__}: {error}); copy it again"
        ) from error


def _folder(source: str) -> Path:
    for folder in (shipped_checkpoints() / source if os.sep not in source else Path(source), Path(source)):
        if (folder / _REPORT).is_file():
            return folder
    raise CheckpointError(f"{source}: no {_REPORT} in it; name the folder of a predictor, or the bundled {DEFAULT}")


def _assemble(record: Json, tensors: dict[str, Floats]) -> PropertyPredictor:
    from onnx_ghn.ghn import ArrayGHN, GHNConfig, StoredGHN
    from onnx_ghn.ghn.weight_shapes import weight_shapes

    config = GHNConfig.from_dict(record["ghn"])
    own = {name.removeprefix("ghn."): t.astype(np.float32) for name, t in tensors.items() if name.startswith("ghn.")}
    expected = {name: shape for name, shape in weight_shapes(config).items() if not name.startswith(_DECODES)}
    wrong = [name for name in {**expected, **own} if name not in own or own[name].shape != expected.get(name)]
    if wrong:
        raise CheckpointError(
            f"the predictor's GHN: tensor {wrong[0]} is absent, unknown or of another shape; copy it again"
        )
    ghn = ArrayGHN(StoredGHN(config, own))
    regressions = {}
    for name, entry in record["regressions"].items():
        arrays: dict[str, Floats] = {key: tensors[f"{name}.{key}"] for key in _ARRAYS}
        numbers = {key: float(entry[key]) for key in _NUMBERS}
        columns = tuple(int(i) for i in entry["columns"])
        if arrays["support"].shape != (len(arrays["dual"]), len(columns)) or not all(
            np.isfinite(array).all() for array in arrays.values()
        ):
            raise CheckpointError(f"the regression of {name}: its arrays do not belong together; copy it again")
        values: dict[str, Any] = {**arrays, **numbers}
        regressions[name] = Regression(columns=columns, log=bool(entry["log"]), **values)
    return PropertyPredictor(ghn, regressions, tensors["seen"], record["report"])
