"""Reading the published .pt files (PPUDA, GHN-3) without running what a pickle may hold."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.plain_tensors import check_archive, check_plain
from onnx_ghn.ghn.published import infer_config, renamed

__all__ = ["read_pt"]

_CONVERT = (
    "if you trust the file, convert it once where it was made: "
    "torch.save({'state_dict': ..., 'config': ...}, 'ghn.pt') with tensors and plain values only"
)


def read_pt(path: Path) -> tuple[GHNConfig, dict[str, Array]]:
    """Config and tensors of a published .pt: {'state_dict', 'config', ...}, or a bare state dict.

    Raises:
        CheckpointError: unreadable, pickled with more than tensors and plain values, or not a GHN.
    """
    check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tensors that are refused below
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
        with path.open("rb") as file:
            magic = file.read(2)
        # joblib writes a plain or a compressed pickle, torch a zip archive.
        if magic != b"PK":
            raise CheckpointError(
                f"{path}: not a torch file that can be read safely (GHN-3's released files were written by "
                f"joblib: pickle, which can run code); {_CONVERT}"
            ) from error
        raise CheckpointError(f"{path}: pickled objects besides tensors could run code; {_CONVERT}") from error
    except (RuntimeError, EOFError, OSError, ArithmeticError, MemoryError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: truncated or damaged ({error}); copy it again") from error
    if not isinstance(loaded, Mapping):
        raise CheckpointError(f"{path}: holds a {type(loaded).__name__}, not a GHN's state dict")
    try:
        return _config_and_tensors(loaded)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _config_and_tensors(loaded: Mapping[str, object]) -> tuple[GHNConfig, dict[str, Array]]:
    config = loaded.get("config")
    state = loaded.get("state_dict", loaded)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError("not a GHN: no state_dict of tensors in it")
    tensors = renamed({str(name): tensor for name, tensor in state.items()})
    check_plain(tensors)
    arrays = {name: tensor.detach().float().numpy() for name, tensor in tensors.items()}
    if config is None:
        return infer_config({name: array.shape for name, array in arrays.items()}), arrays
    telling = {"heads", "layers", "is_ghn2", "graph_rules"}  # the keys that show whose config it is
    of_ghn3 = any(name.startswith("gnn.0.attn.") for name in tensors)
    if of_ghn3 and isinstance(config, Mapping) and not telling & set(config):
        # The config of a GHN-3 may leave all keys of its own at their defaults; then the tensors decide.
        config = {**config, "is_ghn2": False}
    return GHNConfig.from_dict(config), arrays
