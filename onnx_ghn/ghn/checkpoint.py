"""GHNs in files: safetensors and JSON; published .pt files are read and converted."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from onnx_ghn.errors import CheckpointError, ModelWriteError, OptionError
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.network import GHN
from onnx_ghn.ghn.plain_tensors import check_plain
from onnx_ghn.ghn.published import infer_config, read_pt, renamed
from onnx_ghn.onnx_io import write_file
from onnx_ghn.reading import open_regular, read_json
from onnx_ghn.shipped import POLICY_FILE, shipped_checkpoints, shipped_ghns

__all__ = ["CheckpointInfo", "fingerprint", "list_ghns", "load_ghn", "save_ghn"]

_WEIGHTS, _CONFIG, _CARD = "model.safetensors", "config.json", "README.md"
_METADATA_KEY = "onnx_ghn.config"
# GHN-3-XL/m16, the largest published, is 2.6 GB.
_MAX_WEIGHT_BYTES = 32 * 2**30
_MAX_CONFIG_BYTES = 2**20


class CheckpointInfo(NamedTuple):
    """A shipped GHN: the name that `load_ghn` takes, its folder, its config, the first line of its card."""

    name: str
    path: Path
    config: GHNConfig
    description: str


def list_ghns() -> list[CheckpointInfo]:
    """The shipped GHNs, by name.

    Raises:
        CheckpointError: a damaged config among them.
    """
    return [
        CheckpointInfo(folder.name, folder, _read_config(folder / _CONFIG), _describe(folder / _CARD))
        for folder in shipped_ghns(shipped_checkpoints())
    ]


def _describe(card: Path) -> str:
    """The first line of prose of a card: past front matter, headings and blank lines."""
    try:
        lines = card.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ""
    if lines and lines[0].strip() == "---" and "---" in lines[1:]:
        lines = lines[lines.index("---", 1) + 1 :]
    prose = (line.strip() for line in lines if line.strip() and not line.lstrip().startswith(("#", "|", "<", "!")))
    return next(prose, "")


def load_ghn(source: str | os.PathLike[str], device: str | torch.device = "cpu") -> GHN:
    """A GHN, in evaluation mode.

    Args:
        source: the name of a shipped GHN (`list_ghns`); a folder with model.safetensors and config.json; a
            .safetensors file, with <same stem>.config.json or config.json beside it; a published .pt file.
        device: of the weights.

    Raises:
        CheckpointError: absent, damaged, not a GHN, or tensors that its config does not have.
        OptionError: a device that is not there.
    """
    path = _resolve(source)
    if path.is_dir():
        weights = path / _WEIGHTS
        if not weights.is_file():
            raise CheckpointError(f"{path}: no {_WEIGHTS} in it; is this the folder of a GHN?")
        config, tensors = _read_safetensors(weights)
    elif path.suffix == ".safetensors":
        config, tensors = _read_safetensors(path)
    else:
        _check_size(path)
        config, tensors = read_pt(path)
    ghn = _assemble(config, tensors, path)
    ghn.policy_file = (path if path.is_dir() else path.parent) / POLICY_FILE
    try:
        return ghn.to(device).eval()
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"device {device}: {str(error).splitlines()[0]}") from error


def _resolve(source: str | os.PathLike[str]) -> Path:
    text = os.fspath(source)
    shipped = {folder.name: folder for folder in shipped_ghns(shipped_checkpoints())}
    if text in shipped:
        return shipped[text]
    try:
        path = Path(text).expanduser()
        found = bool(text) and path.exists()
    except (OSError, RuntimeError):  # a name too long for any file, the home of nobody
        found = False
    if not found:
        names = ", ".join(shipped) or "none"
        raise CheckpointError(f"{text}: no such file, folder or shipped GHN; shipped are: {names}")
    return path


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


def _read_config(path: Path) -> GHNConfig:
    values = read_json(path, _MAX_CONFIG_BYTES, "config")
    try:
        return GHNConfig.from_dict(values)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error


def _config_beside(weights: Path) -> Path | None:
    """<stem>.config.json (for a stem a.b also a.config.json), or else config.json, in the same folder."""
    parts = weights.name.removesuffix(".safetensors").split(".")
    stems = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    for candidate in (*(f"{stem}.{_CONFIG}" for stem in stems), _CONFIG):
        if (weights.parent / candidate).is_file():
            return weights.parent / candidate
    return None


def _read_safetensors(path: Path) -> tuple[GHNConfig, dict[str, Tensor]]:
    """Config (beside the file, else in its metadata, else from the shapes) and tensors."""
    _check_size(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = renamed({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 (no iterator)
        check_plain(tensors)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except (SafetensorError, OSError, ValueError, LookupError, AttributeError, TypeError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file ({error}); truncated? Copy it again") from error
    beside = _config_beside(path)
    if beside is not None:
        return _read_config(beside), tensors
    if _METADATA_KEY in metadata:
        try:
            return GHNConfig.from_dict(json.loads(metadata[_METADATA_KEY])), tensors
        except (ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: the config in its metadata is unreadable ({error})") from error
    try:
        return infer_config(tensors), tensors
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error} as {_CONFIG} beside it") from error


def _assemble(config: GHNConfig, tensors: Mapping[str, Tensor], source: Path) -> GHN:
    """A GHN of that config holding those tensors."""
    # On the meta device nothing is allocated or drawn at random before the shapes are known to agree.
    with torch.device("meta"):
        ghn = GHN(config)
    expected = {name: tuple(tensor.shape) for name, tensor in ghn.state_dict().items()}
    absent, extra = sorted(set(expected) - set(tensors)), sorted(set(tensors) - set(expected))
    if not set(expected) & set(tensors):
        raise CheckpointError(f"{source}: not a GHN; its tensors are {', '.join(extra[:3]) or 'none'} ...")
    if absent or extra:
        what = f"no tensor {absent[0]}" if absent else f"unknown tensor {extra[0]}"
        raise CheckpointError(
            f"{source}: {what} ({len(absent)} absent, {len(extra)} unknown) for the {config.hypernet} GHN "
            "of its config; does the config belong to it?"
        )
    ready: dict[str, Tensor] = {}
    for name, shape in expected.items():
        tensor = tensors[name]
        # A pointwise layer may be stored as (out, in) or (out, in, 1, 1).
        squeezed = [tuple(s[:2]) if len(s) == 4 and s[2:] == (1, 1) else s for s in (shape, tuple(tensor.shape))]
        if squeezed[0] != squeezed[1]:
            raise CheckpointError(
                f"{source}: tensor {name} is {tuple(tensor.shape)}, the config's GHN has {shape}; "
                "does the config belong to it?"
            )
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{source}: tensor {name} holds infinities or NaNs; damaged? Copy it again")
        ready[name] = tensor.float().reshape(shape)
    ghn.load_state_dict(ready, assign=True)
    return ghn.requires_grad_()


def save_ghn(ghn: GHN, folder: str | os.PathLike[str]) -> Path:
    """Write model.safetensors and config.json into a folder (made if absent), each whole or not at all.

    The config is also in the metadata of model.safetensors, so that file alone is a GHN. The same GHN gives
    the same bytes.

    Returns:
        The folder.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
        write_file(target / _WEIGHTS, _file_of(ghn), force=True)
        write_file(target / _CONFIG, ghn.config.to_json(), force=True)
    except (OSError, ModelWriteError) as error:
        cause = error.__cause__ or error  # the system's own error, if writing has failed
        reason = cause.strerror if isinstance(cause, OSError) else cause
        raise CheckpointError(f"{target}: cannot be written ({reason})") from error
    return target


def fingerprint(ghn: GHN) -> str:
    """Which GHN it is, by config and weights: the first 16 digits of the SHA-256 of the file that `save_ghn` writes."""
    return hashlib.sha256(_file_of(ghn)).hexdigest()[:16]


def _file_of(ghn: GHN) -> bytes:
    """model.safetensors."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in ghn.state_dict().items()}
    # One key of metadata: several are written in no fixed order.
    return save(tensors, {_METADATA_KEY: json.dumps(dataclasses.asdict(ghn.config))})
