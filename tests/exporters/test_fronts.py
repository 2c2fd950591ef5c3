"""The scripts of the folder exporters/: one for each framework, and the requirements of their environments."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from onnx_ghn.cli import cli
from onnx_ghn.cli.export_front import export_front
from onnx_ghn.exporters.registry import EXAMPLES, FRAMEWORKS

FOLDER = Path(__file__).parents[2] / "exporters"
HEAVY = ("torch", "torchvision", "timm", "transformers", "keras", "tensorflow", "jax", "flax", "equinox", "paddle")
HEAVY += ("mindspore", "sklearn", "onnx")
SHOW_HELP = """
import contextlib, io, json, runpy, sys
shown = {}
for path in sys.argv[1:]:
    sys.argv, sys.path[0] = [path, "--help"], path.rpartition("/")[0]
    output = io.TextIOWrapper(io.BytesIO())
    with contextlib.redirect_stdout(output):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as stop:
            assert not stop.code, stop.code
    output.seek(0)
    shown[path] = output.read()
print(json.dumps({"shown": shown, "modules": sorted(sys.modules)}))
"""


def front(framework: str) -> Path:
    return FOLDER / f"export_{framework}.py"


def test_every_framework_has_a_front_that_shows_its_help_without_the_framework() -> None:
    assert {path.stem.removeprefix("export_") for path in FOLDER.glob("export_*.py")} == set(FRAMEWORKS)
    assert set(EXAMPLES) == set(FRAMEWORKS)
    command = [sys.executable, "-c", SHOW_HELP, *(str(front(framework)) for framework in FRAMEWORKS)]
    done = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert not set(HEAVY) & set(done["modules"])
    for framework, module in FRAMEWORKS.items():
        text = done["shown"][str(front(framework))]
        assert f"onnx-ghn export {framework}:TARGET" in text
        assert ("--auxiliary" in text) == (module in ("pytorch", "huggingface"))


def test_no_front_shadows_a_module() -> None:
    """A script's folder comes first on the path, so that a file keras.py there would be what `import keras` finds."""
    elsewhere = [entry for entry in sys.path if Path(entry or ".").resolve() != FOLDER]
    for path in FOLDER.glob("*.py"):
        assert path.stem not in sys.stdlib_module_names
        assert path.stem not in (*FRAMEWORKS, *FRAMEWORKS.values(), *HEAVY)
        assert importlib.machinery.PathFinder.find_spec(path.stem, elsewhere) is None


def test_a_front_writes_what_the_command_writes(tmp_path: Path) -> None:
    net = tmp_path / "net.py"
    net.write_text(
        "import torch\n\n\ndef build(width=4):\n    torch.manual_seed(0)\n"
        "    return torch.nn.Linear(3, width), torch.rand(1, 3)\n"
    )
    options = ["--set", "width=6", "-o"]
    for command, target, output in ((export_front("torch"), [], "a.onnx"), (cli, ["export"], "b.onnx")):
        name = f"{net}:build" if not target else f"torch:{net}:build"
        done = CliRunner().invoke(command, [*target, name, *options, str(tmp_path / output)])
        assert done.exit_code == 0, done.output
        assert f"from torch:{net}:build" in done.output
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_requirements_are_those_of_pyproject() -> None:
    spec = importlib.util.spec_from_file_location("environment", FOLDER / "environment.py")
    assert spec is not None
    assert spec.loader is not None
    environment = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "environment", environment)
        spec.loader.exec_module(environment)
    served = [framework for one in environment.ENVIRONMENTS.values() for framework in one.frameworks]
    assert sorted(served) == sorted(FRAMEWORKS)
    assert {path.stem for path in (FOLDER / "requirements").iterdir()} == set(environment.ENVIRONMENTS)
    for name in environment.ENVIRONMENTS:
        path = FOLDER / "requirements" / f"{name}.txt"
        assert path.read_text() == environment.requirements(name), "run python exporters/environment.py"
