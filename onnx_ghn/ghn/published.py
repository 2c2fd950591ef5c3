"""Reading the published .pt files (PPUDA, GHN-3) without running what a pickle may hold."""

from __future__ import annotations

import math
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.plain_tensors import check_archive, check_plain

__all__ = ["infer_config", "read_pt", "renamed"]

# The structure embeddings of GHN-3: released files hold them at the top, the published code then moves them.
_MOVED = ("centrality_embed_in", "centrality_embed_out", "input_dist_embed")
_CONVERT = (
    "if you trust the file, convert it once where it was made: "
    "torch.save({'state_dict': ..., 'config': ...}, 'ghn.pt') with tensors and plain values only"
)


def renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under `GHN`'s names: without `module.` of a DDP wrapper, structure embeddings in gnn.0."""
    out: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        out["gnn.0." + name if name.split(".")[0] in _MOVED else name] = tensor
    return out


def infer_config(tensors: Mapping[str, Tensor]) -> GHNConfig:
    """The configuration of a published GHN from its tensors' shapes, for files that carry none.

    What no shape shows is set as in SamsungSAILMontreal/ghn3, ghn3/nn.py, `from_pretrained`: virtual edges
    and normalisation are on, except in a GHN-1 (a gated network without mlp_ve).

    Raises:
        CheckpointError: tensors that a GHN has are absent, or of impossible shapes.
    """
    try:
        hid = tensors["embed.weight"].shape[1]
        side = math.isqrt(tensors["decoder.fc.0.weight"].shape[0] // (4 * hid))
        predictor = tensors["decoder.class_layer_predictor.1.weight"]
        n_out = predictor.shape[1]
        n_in = tensors["decoder.conv.2.weight"].shape[0] // n_out
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            "no config, and the tensors are not those of a GHN with the convolutional decoder; add its config"
        ) from error
    common: dict[str, Any] = {
        "max_shape": (n_out, n_in, side, side),
        "num_classes": predictor.shape[0],
        "hid": hid,
        "layernorm": "ln.weight" in tensors,
        "trained": True,
    }
    if any(name.startswith("gnn.0.attn.") for name in tensors):
        try:
            heads = tensors["gnn.0.attn.proj_e.2.weight"].shape[0]
        except (KeyError, IndexError) as error:
            raise CheckpointError("gnn.0.attn.proj_e.2.weight absent or a number: not a published GHN-3") from error
        layers = sum(name.startswith("gnn.") and name.endswith(".ln1.weight") for name in tensors)
        return GHNConfig(
            **common, hypernet="graphormer", heads=heads, layers=layers,
            kernel_slice="centre", kernel_overflow="interpolate", graph_rules="ghn3",
        )  # fmt: skip
    gated = any(name.startswith("gnn.gru.") for name in tensors)
    ve = not gated or any(name.startswith("gnn.mlp_ve.") for name in tensors)
    # Two-axis decoder weights are the mark of a GHN-2 trained with GHN-3's code.
    of_ghn3_code = predictor.dim() == 2
    return GHNConfig(
        **common,
        hypernet="gatedgnn" if gated else "mlp",
        ve=ve,
        weight_norm=ve,
        kernel_overflow="interpolate" if of_ghn3_code else "tile",
        graph_rules="ghn3" if of_ghn3_code else "ppuda",
    )


def read_pt(path: Path) -> tuple[GHNConfig, dict[str, Tensor]]:
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


def _config_and_tensors(loaded: Mapping[str, object]) -> tuple[GHNConfig, dict[str, Tensor]]:
    config = loaded.get("config")
    state = loaded.get("state_dict", loaded)
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise CheckpointError("not a GHN: no state_dict of tensors in it")
    tensors = renamed({str(name): tensor for name, tensor in state.items()})
    check_plain(tensors)
    if config is None:
        return infer_config(tensors), tensors
    telling = {"heads", "layers", "is_ghn2", "graph_rules"}  # the keys that show whose config it is
    of_ghn3 = any(name.startswith("gnn.0.attn.") for name in tensors)
    if of_ghn3 and isinstance(config, Mapping) and not telling & set(config):
        # The config of a GHN-3 may leave all keys of its own at their defaults; then the tensors decide.
        config = {**config, "is_ghn2": False}
    return GHNConfig.from_dict(config), tensors
