"""Where the checkpoints are that come with the package: GHNs and predictors of properties."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from onnx_ghn.errors import CheckpointError, did_you_mean

__all__ = ["POLICY_FILE", "default_policy", "find_ghn", "shipped_checkpoints", "shipped_ghns"]

#: Beside the weights of a GHN: what of its predictions pays, see `prediction.policy`.
POLICY_FILE = "policy.json"


def shipped_checkpoints() -> Path:
    """The folder of shipped checkpoints, of the installed package or of a checkout; it may be absent."""
    try:
        return Path(str(importlib.resources.files("onnx_ghn.checkpoints")))
    except ModuleNotFoundError:
        return Path(__file__).resolve().parents[1] / "checkpoints"


def shipped_ghns(checkpoints: Path) -> list[Path]:
    """The folders of GHNs in a folder of checkpoints, by name."""
    found = (config.parent for config in checkpoints.glob("*/config.json"))
    return sorted(folder for folder in found if (folder / "model.safetensors").is_file())


def find_ghn(name: str) -> Path:
    """The folder of a shipped GHN by its name, or the path that the name is.

    Raises:
        CheckpointError: there is neither, or it is a model.
    """
    shipped = {folder.name: folder for folder in shipped_ghns(shipped_checkpoints())}
    if name in shipped:
        return shipped[name]
    try:
        path = Path(name).expanduser()
        found = bool(name) and path.exists()
    except (OSError, RuntimeError, ValueError):  # no name of any file, or the home of nobody
        found = False
    if not found:
        known = ", ".join(shipped) or "none"
        meant = did_you_mean(name, shipped)
        raise CheckpointError(f"{name}: no such file, folder or shipped GHN; shipped are: {known}{meant}")
    if path.suffix.lower() == ".onnx":
        raise CheckpointError(f"{name}: is a model, not a GHN; name a shipped one, a folder or a published .pt file")
    return path


def default_policy() -> Path | None:
    """The policy of the GHN that predicts unless another one is named; None where no GHN is shipped."""
    shipped = shipped_ghns(shipped_checkpoints())
    return shipped[0] / POLICY_FILE if shipped else None
