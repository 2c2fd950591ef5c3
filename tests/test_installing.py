"""What is told where a package is absent: the extra that brings it, and a command that works here."""

from __future__ import annotations

import builtins
import importlib.util
import json
import shlex
import sys
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement

import onnx_ghn
from onnx_ghn import installing
from onnx_ghn.errors import OptionError
from onnx_ghn.installing import NotInstalledError, install_command, require

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


class _Distribution:
    """As pip's metadata of an installed package tell it."""

    def __init__(self, told: object) -> None:
        self._told = told

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self._told is None else json.dumps(self._told)

    @property
    def requires(self) -> list[str]:
        extras = PROJECT["optional-dependencies"]
        return [f'{line}; extra == "{extra}"' for extra, lines in extras.items() for line in lines]


@pytest.fixture
def installed_from(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    def pretend(told: object) -> None:
        monkeypatch.setattr(metadata, "distribution", lambda name: _Distribution(told))

    return pretend


def test_an_index(installed_from: Callable[[object], None]) -> None:
    installed_from(None)
    assert install_command("cpu") == "python -m pip install 'onnx-ghn[cpu]'"


def test_a_checkout_a_folder_and_a_wheel(installed_from: Callable[[object], None], tmp_path: Path) -> None:
    home = tmp_path / "a folder"
    home.mkdir()
    wheel = home / "onnx_ghn-0.1.0-py3-none-any.whl"
    wheel.touch()
    for told, words in (
        ({"url": home.as_uri(), "dir_info": {"editable": True}}, ["--editable", f"{home}[plot]"]),
        ({"url": home.as_uri(), "dir_info": {}}, [f"{home}[plot]"]),
        ({"url": wheel.as_uri(), "archive_info": {}}, [f"{wheel}[plot]"]),
    ):
        installed_from(told)
        assert shlex.split(install_command("plot")) == ["python", "-m", "pip", "install", *words]


def test_a_repository(installed_from: Callable[[object], None]) -> None:
    installed_from({"url": "https://example.org/x.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert install_command("hf") == "python -m pip install 'onnx-ghn[hf] @ git+https://example.org/x.git@abc'"


def test_a_wheel_that_is_gone(installed_from: Callable[[object], None], tmp_path: Path) -> None:
    """Then the packages themselves are named, those of extras within the extra too."""
    installed_from({"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}})
    words = shlex.split(install_command("finetune"))[4:]
    assert {Requirement(word).name for word in words} == {
        "torch", "torchvision", "timm", "onnxscript", "onnx2fx", "scipy",
    }  # fmt: skip


def test_an_environment_without_pip(installed_from: Callable[[object], None], monkeypatch: pytest.MonkeyPatch) -> None:
    installed_from(None)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find(name))
    assert install_command("cpu") == "uv pip install 'onnx-ghn[cpu]'"


def test_not_installed_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout on PYTHONPATH."""

    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", absent)
    assert shlex.split(install_command("cpu")) == ["python", "-m", "pip", "install", "--editable", f"{ROOT}[cpu]"]


def test_each_module_has_an_extra_that_brings_its_package() -> None:
    distributions = {"sklearn": "scikit-learn", "huggingface_hub": "huggingface-hub", "mlflow": "mlflow-skinny"}
    for module, extra in installing._EXTRAS.items():
        names = _names(extra)
        assert distributions.get(module, module) in names, (module, extra)


def test_neither_onnxruntime_is_a_plain_dependency() -> None:
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert not names & {"onnxruntime", "onnxruntime-gpu", "torch", "torchvision", "scipy", "networkx", "h5py"}
    for extra in PROJECT["optional-dependencies"]:
        assert not {"onnxruntime", "onnxruntime-gpu"} <= _names(extra), extra


def _names(extra: str) -> set[str]:
    found: set[str] = set()
    for line in PROJECT["optional-dependencies"][extra]:
        requirement = Requirement(line)
        if requirement.name == "onnx-ghn":
            found |= {name for inner in requirement.extras for name in _names(inner)}
        else:
            found.add(requirement.name)
    return found


def test_an_absent_framework_and_what_a_framework_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "half_a_framework.py").write_text("import no_such_package\n")
    with pytest.raises(NotInstalledError, match=r"^no_such_framework is not installed: .*\[paddle\]"):
        require("no_such_framework", "paddle")
    with pytest.raises(OptionError, match=r"half_a_framework cannot be imported: it needs no_such_package; python"):
        require("half_a_framework", "paddle")
    assert isinstance(require("json", "paddle"), ModuleType)


def test_a_name_of_the_library_that_needs_an_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an ImportError, as everywhere in Python, and one of ours."""
    imported = builtins.__import__

    def without_torch(name: str, *arguments: Any, **keywords: Any) -> Any:
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return imported(name, *arguments, **keywords)

    for name in [name for name in sys.modules if name.startswith("onnx_ghn.ghn")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(ImportError, match=r"onnx_ghn\.ghn\.new_ghn needs torch, which is not .*\[torch\]") as told:
        _ = onnx_ghn.new_ghn
    assert isinstance(told.value, OptionError)
