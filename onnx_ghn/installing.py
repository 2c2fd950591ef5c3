"""Packages that only a part of onnx-ghn needs: which extra brings them, and the command that installs it here.

What it takes to find that command is imported where it is needed: every command imports this module.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

from onnx_ghn.errors import OptionError
from onnx_ghn.json_types import Json

__all__ = ["NotInstalledError", "install_command", "not_installed", "require", "require_installed"]

_NAME = "onnx-ghn"
#: By the name of a module, the extra that installs it.
_EXTRAS = {
    "onnxruntime": "cpu",
    "torch": "torch",
    "torchvision": "torch",
    "timm": "torch",
    "onnxscript": "torch",
    "transformers": "hf",
    "scipy": "train",
    "h5py": "train",
    "networkx": "train",
    "joblib": "train",
    "sklearn": "train",
    "tensorboard": "train",
    "matplotlib": "plot",
    "pymoo": "search",
    "onnx2fx": "finetune",
    "pycocotools": "detect",
    "huggingface_hub": "hub",
    "wandb": "wandb",
    "mlflow": "mlflow",
    "trackio": "trackio",
}


class NotInstalledError(OptionError, ImportError):
    """A package is not installed that what was asked for needs; the message has the command that installs it."""


def require(module: str, extra: str) -> ModuleType:
    """Import a module of a package that may not be installed.

    Args:
        extra: of onnx-ghn, that brings it.

    Raises:
        NotInstalledError: it, or a package that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        if error.name is not None and error.name.partition(".")[0] != module.partition(".")[0]:
            raise NotInstalledError(
                f"{module} cannot be imported: it needs {error.name}; {_pip()} {error.name}"
            ) from error
        raise NotInstalledError(f"{module} is not installed: {install_command(extra)}") from error


def require_installed(module: str) -> None:
    """Look for a package of `_EXTRAS` without importing it. Raises NotInstalledError."""
    if importlib.util.find_spec(module) is None:
        raise NotInstalledError(f"{module} is not installed: {install_command(_EXTRAS[module])}")


def not_installed(error: ModuleNotFoundError, what: str) -> NotInstalledError | None:
    """What to raise in the place of an import's error; None where an extra of onnx-ghn has nothing to do with it.

    Args:
        what: needs the package.
    """
    module = (error.name or "").partition(".")[0]
    extra = _EXTRAS.get(module)
    if extra is None:
        return None
    return NotInstalledError(f"{what} needs {module}, which is not installed: {install_command(extra)}")


def install_command(extra: str) -> str:
    """The command that adds an extra to onnx-ghn as it is installed here: from an index, a checkout or a wheel."""
    import shlex
    from pathlib import Path
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    told = _told()
    url = urlsplit(str(told.get("url", "")))
    if repository := told.get("vcs_info"):
        at = f"{repository['vcs']}+{told['url']}@{repository['commit_id']}"
        return f"{_pip()} '{_NAME}[{extra}] @ {at}'"
    if url.scheme != "file":
        return f"{_pip()} '{_NAME}[{extra}]'"
    path = Path(url2pathname(url.path))
    if path.exists():
        option = "--editable " if told.get("dir_info", {}).get("editable") else ""
        return f"{_pip()} {option}{shlex.quote(f'{path}[{extra}]')}"
    needed = " ".join(shlex.quote(line) for line in _requirements(extra))  # what it was installed from is gone
    return f"{_pip()} {needed}"


def _pip() -> str:
    """`uvx` and `uv venv` make environments without pip."""
    return "python -m pip install" if importlib.util.find_spec("pip") is not None else "uv pip install"


def _told() -> Json:
    """What pip or uv noted on what it was installed from (PEP 610): nothing for an index.

    Where onnx-ghn is not installed at all, it runs from the folder that holds the package.
    """
    import json
    from importlib import metadata
    from pathlib import Path

    try:
        text = metadata.distribution(_NAME).read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {"url": Path(__file__).parents[1].as_uri(), "dir_info": {"editable": True}}
    told: Json = {} if text is None else json.loads(text)
    return told


def _requirements(extra: str) -> list[str]:
    """The requirements of an extra, and of the extras that it names."""
    from importlib import metadata

    found: list[str] = []
    for line in metadata.requires(_NAME) or ():
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        if marker.replace("'", '"') == f'extra == "{extra}"':
            inner = requirement.removeprefix(f"{_NAME}[") if requirement.startswith(f"{_NAME}[") else ""
            names = inner.rstrip("]").split(",") if inner else ()
            found += [each for name in names for each in _requirements(name.strip())] if names else [requirement]
    return list(dict.fromkeys(found))
