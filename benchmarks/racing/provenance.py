"""Where a row comes from: versions of packages and of this repository."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

from onnx_ghn.ghn import list_ghns

__all__ = ["revision", "versions"]

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime-gpu", "onnxruntime")


@functools.cache
def versions(ghn: str | None) -> dict[str, str]:
    """Of what is installed, and which GHN predicts."""
    installed = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    shipped = list_ghns()
    name = ghn or (shipped[0].name if shipped else "untrained")
    return {"ghn": name, **{package: installed[package] for package in _PACKAGES if package in installed}}


@functools.cache
def revision() -> str:
    """The commit that is checked out, with a plus sign where files differ from it; empty outside a checkout."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit + "+" * bool(commit and git("status", "--porcelain", "--untracked-files=no"))
