"""A GHN as it is stored: its config and its weights as arrays, checked, before any framework sees them."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError, safe_open

from onnx_ghn.arguments import path_given
from onnx_ghn.arrays import Array
from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.config_files import CONFIG, WEIGHTS, config_names, read_config
from onnx_ghn.ghn.hub import SCHEME, download
from onnx_ghn.ghn.published import infer_config, renamed
from onnx_ghn.ghn.weight_shapes import weight_shapes
from onnx_ghn.reading import open_regular
from onnx_ghn.shipped import POLICY_FILE, find_ghn, shipped_checkpoints, shipped_ghns

__all__ = ["CONFIG_KEY", "StoredGHN", "read_ghn"]

CONFIG_KEY = "onnx_ghn.config"  # in the metadata of the weights
# GHN-3-XL/m16, the largest published, is 2.6 GB.
_MAX_WEIGHT_BYTES = 32 * 2**30
_FLOATS = ("F16", "BF16", "F32", "F64")  # as safetensors names them


@dataclasses.dataclass(frozen=True, eq=False)
class StoredGHN:
    """What the files of a GHN hold.

    Attributes:
        tensors: by the published names, of the shapes that `weight_shapes` tells.
        policy_file: beside the weights, where they were read from a file; it may be absent.
    """

    config: GHNConfig
    tensors: Mapping[str, npt.NDArray[np.float32]]
    policy_file: Path | None = None


def read_ghn(source: str | os.PathLike[str] | None = None) -> StoredGHN:
    """Read a GHN.

    Args:
        source: the name of a shipped GHN, None for the default one; a folder with model.safetensors and config.json; a
            .safetensors file, with <same stem>.config.json or config.json beside it; a published .pt file, which takes
            torch; an address of any of these on the Hugging Face hub, `hf://owner/name[@revision][/file]`.

    Raises:
        CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
    """
    path = _resolve(source)
    if path.is_dir():
        weights = path / WEIGHTS
        if not weights.is_file():
            raise CheckpointError(f"{path}: no {WEIGHTS} in it; is this the folder of a GHN?")
        config, tensors = _read_safetensors(weights)
    elif path.suffix == ".safetensors":
        config, tensors = _read_safetensors(path)
    else:
        _check_size(path)
        from onnx_ghn.ghn.torch_files import read_pt

        config, tensors = read_pt(path)
    folder = path if path.is_dir() else path.parent
    return StoredGHN(config, _checked(config, tensors, path), folder / POLICY_FILE)


def _resolve(source: str | os.PathLike[str] | None) -> Path:
    if source is None:
        shipped = shipped_ghns(shipped_checkpoints())
        if not shipped:
            raise CheckpointError("no GHN is shipped here: name a checkpoint of one")
        return shipped[0]
    text = path_given("source", source, "or the name of a GHN that is shipped")
    return download(text) if text.startswith(SCHEME) else find_ghn(text)


def _check_size(path: Path) -> None:
    try:
        os.close(open_regular(path))
        size_bytes = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); is it a GHN?") from error
    if size_bytes > _MAX_WEIGHT_BYTES:
        raise CheckpointError(f"{path}: {size_bytes:,} bytes, more than any GHN ({_MAX_WEIGHT_BYTES:,}); is it a GHN?")
    if not size_bytes:
        raise CheckpointError(f"{path}: empty; copy it again")


def _config_beside(weights: Path) -> Path | None:
    """Its config in the same folder; None where there is none."""
    candidates = (weights.parent / name for name in config_names(weights.name))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _read_safetensors(path: Path) -> tuple[GHNConfig, dict[str, Array]]:
    """Config (beside the file, else in its metadata, else from the shapes) and tensors."""
    _check_size(path)
    try:
        import ml_dtypes  # noqa: F401 (numpy knows bfloat16 by it)

        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            for name in names:
                _check_type(name, file.get_slice(name).get_dtype())
            tensors = renamed({name: file.get_tensor(name) for name in names})
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (SafetensorError, OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); truncated? Copy it again") from error
    beside = _config_beside(path)
    if beside is not None:
        return read_config(beside), tensors
    if CONFIG_KEY in metadata:
        try:
            return GHNConfig.from_dict(json.loads(metadata[CONFIG_KEY])), tensors
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: the config in its metadata is unreadable ({error})") from error
    try:
        return infer_config({name: tensor.shape for name, tensor in tensors.items()}), tensors
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error} as {CONFIG} beside it") from error


def _check_type(name: str, dtype: str) -> None:
    if not dtype.startswith(("F", "BF")):
        raise CheckpointError(f"tensor {name} is {dtype}, must be floating point")
    if dtype not in _FLOATS:
        raise CheckpointError(f"tensor {name} is {dtype}, must be float16, bfloat16, float32 or float64")


def _checked(config: GHNConfig, tensors: Mapping[str, Array], source: Path) -> dict[str, npt.NDArray[np.float32]]:
    """The tensors as float32 in the shapes that the config's GHN has."""
    expected = weight_shapes(config)
    absent, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if not set(expected) & set(tensors):
        raise CheckpointError(f"{source}: not a GHN; its tensors are {', '.join(extra[:3]) or 'none'} ...")
    if absent or extra:
        what = f"no tensor {absent[0]}" if absent else f"unknown tensor {extra[0]}"
        raise CheckpointError(
            f"{source}: {what} ({len(absent)} absent, {len(extra)} unknown) for the {config.hypernet} GHN "
            "of its config; does the config belong to it?"
        )
    ready: dict[str, npt.NDArray[np.float32]] = {}
    for name, shape in expected.items():
        tensor = tensors[name]
        # A pointwise layer may be stored as (out, in) or (out, in, 1, 1).
        squeezed = [s[:2] if len(s) == 4 and s[2:] == (1, 1) else s for s in (shape, tensor.shape)]
        if squeezed[0] != squeezed[1]:
            raise CheckpointError(
                f"{source}: tensor {name} is {tensor.shape}, the config's GHN has {shape}; "
                "does the config belong to it?"
            )
        values = tensor.astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise CheckpointError(f"{source}: tensor {name} holds infinities or NaNs; damaged? Copy it again")
        ready[name] = values.reshape(shape)
    return ready
