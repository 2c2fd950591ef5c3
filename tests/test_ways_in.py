"""The action and the image: their steps are run here as they stand, without a runner and without a builder."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step.get("name", "set up"): step for step in ACTION["runs"]["steps"]}
EXAMPLE = ROOT / "data" / "examples" / "audio_m5.onnx"

needs_bash = pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")


def _step(name: str, folder: Path, **inputs: str) -> subprocess.CompletedProcess[str]:
    """Run a step as a runner does: its script in bash, what `env` says filled in with the inputs and their defaults."""
    given = {key: str(told.get("default", "")) for key, told in ACTION["inputs"].items()} | inputs
    own = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda match: given[match[1]], value)
        for key, value in STEPS[name]["env"].items()
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own |= {"PATH": path, "RUNNER_TEMP": str(folder), "GITHUB_OUTPUT": str(folder / "outputs")}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEPS[name]["run"]]
    return subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True)


@needs_bash
def test_the_action_predicts(tmp_path: Path) -> None:
    shutil.copy(EXAMPLE, tmp_path / "a model.onnx")
    done = _step("Predict", tmp_path, **{"model": "a model.onnx", "output": "init.onnx", "policy": "all"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "init.onnx").stat().st_size > 100_000


@needs_bash
@pytest.mark.parametrize(("limit", "code"), [("100000", 0), ("0", 3)])
def test_the_action_holds_a_latency_to_a_limit(tmp_path: Path, limit: str, code: int) -> None:
    done = _step("Profile", tmp_path, **{"model": str(EXAMPLE), "max-p50-ms": limit})
    assert done.returncode == code, done.stderr
    assert f"the limit is {float(limit):g} ms" in done.stdout
    name, _, value = (tmp_path / "outputs").read_text().strip().partition("=")
    point = json.loads((tmp_path / "onnx-ghn-profile.json").read_text())["points"][0]
    assert (name, float(value)) == ("p50-ms", pytest.approx(point["latency"]["p50_ms"], abs=1e-3))


@needs_bash
def test_the_action_takes_limits_as_the_command_does(tmp_path: Path) -> None:
    given = {"model": str(EXAMPLE), "fail-above": "p95_ms=0 p50_ms=100000", "junit": "speed.xml"}
    done = _step("Profile", tmp_path, **given, **{"fail-below": "items_per_s=1e12"})
    assert done.returncode == 3
    told = [line.split(": ")[-1].split()[0] for line in done.stderr.splitlines() if line.startswith("failed: ")]
    assert told == ["p95_ms", "items_per_s"]
    assert "failure" in (tmp_path / "speed.xml").read_text()
    wrong = _step("Profile", tmp_path, **{"model": str(EXAMPLE), "fail-slower-than": "absent.json:5%"})
    assert wrong.returncode == 1
    assert wrong.stderr.startswith("error: --fail-slower-than absent.json: cannot be read")


@needs_bash
def test_the_action_tells_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    done = _step("Predict", tmp_path, model="absent.onnx", output="init.onnx")
    assert done.returncode == 1
    assert done.stderr.startswith("error: absent.onnx: cannot be read")


def test_scripts_take_inputs_from_the_environment_alone() -> None:
    """An input that is put into a script could be a script."""
    assert all("${{" not in step.get("run", "") for step in STEPS.values())
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])


def test_the_image_runs_the_command_as_nobody_in_particular() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    stage = lines[max(i for i, line in enumerate(lines) if line.startswith("FROM")) :]
    assert 'ENTRYPOINT ["onnx-ghn"]' in stage
    assert next(line for line in stage if line.startswith("USER")) == "USER onnx-ghn"
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(re.findall(r"\[(\w+)\]\"", "\n".join(stage))) <= set(extras)


@pytest.mark.slow
def test_the_wheel_of_the_image_is_that_of_the_checkout(tmp_path: Path) -> None:
    """What .dockerignore lets through is all that the wheel is made of."""
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    (tmp_path / "source").mkdir()
    for name in allowed:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / "source" / name)
    found = []
    for source, target in ((ROOT, tmp_path / "checkout"), (tmp_path / "source", tmp_path / "image")):
        command = [sys.executable, "-m", "pip", "--quiet", "wheel", "--no-deps", "-w", target, source]
        subprocess.run(command, check=True)
        (wheel,) = target.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            found.append(sorted(archive.namelist()))
    assert found[0] == found[1]
