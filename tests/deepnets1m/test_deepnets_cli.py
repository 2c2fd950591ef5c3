"""`onnx-ghn deepnets` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnxruntime
import pytest

from onnx_ghn.cli import main
from onnx_ghn.deepnets1m import SPLITS, generate, open_deepnets
from onnx_ghn.graph import build_graph
from onnx_ghn.training.nets import settings


def test_commands_offer_the_splits_of_the_sampler() -> None:
    assert settings.SPLITS == SPLITS


class Outcome(NamedTuple):
    code: object
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> object:
    def command(*arguments: object) -> Outcome:
        code: object = 0
        try:
            main(["deepnets", *map(str, arguments)])
        except SystemExit as stop:
            code = stop.code or 0
        return Outcome(code, *capsys.readouterr())

    return command


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "nets.jsonl"
    generate("wide", 8, 0, path)
    return path


def test_generate_and_info(run, tmp_path: Path) -> None:
    compact, official = tmp_path / "nets.jsonl", tmp_path / "deepnets1m_eval.hdf5"
    assert run("generate", "val", "--count", 70, "--seed", 3, "-o", compact) == (
        0,
        f"{compact}: 70 architectures of split val, seed 3\n",
        "",
    )
    assert run("generate", "val", "--count", 70, "--seed", 3, "-o", compact).out.endswith("70 of them from before\n")
    assert run("generate", "val", "--count", 70, "--seed", 3, "-o", official, "--official").code == 0
    for path, kind, seed in ((compact, "compact", 3), (official, "official", None)):
        found = json.loads(run("info", path, "--json").out)
        n_nodes = open_deepnets(path).n_nodes("val")
        assert (found["format"], found["seed"]) == (kind, seed)
        (row,) = found["splits"]
        assert (row["split"], row["architectures"]) == ("val", 70)
        assert row["nodes"]["max"] == n_nodes.max()
        assert run("info", path).out.startswith("val: 70 architectures, ")


def test_export(run, nets: Path, tmp_path: Path) -> None:
    target = tmp_path / "net.onnx"
    assert run("export", nets, "--index", 1, "-o", target, "--C", 32).code == 0
    with open_deepnets(nets) as file:
        architecture = file.record("wide", 1).architecture
    graph = build_graph(target)
    assert len(graph) == open_deepnets(nets).n_nodes("wide")[1]
    session = onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": np.zeros((3, 3, 32, 32), np.float32)})
    assert logits.shape == (3, 10)
    assert architecture.C == 32
    again = tmp_path / "again.onnx"
    run("export", nets, "--index", 1, "-o", again, "--C", 32)
    assert again.read_bytes() == target.read_bytes()
    # As the split has it, four times as wide.
    assert "C = 128, 10 classes" in run("export", nets, "--index", 1, "-o", tmp_path / "wide.onnx").out
    options = ("--C", 16, "--num-classes", 7, "--fc-dim", 24, "--large-images")
    outcome = run("export", nets, "--split", "wide", "--index", 7, "-o", tmp_path / "large.onnx", *options)
    assert "C = 16, 7 classes" in outcome.out
    session = onnxruntime.InferenceSession(tmp_path / "large.onnx", providers=["CPUExecutionProvider"])
    (logits,) = session.run(None, {"images": np.zeros((1, 3, 224, 224), np.float32)})
    assert logits.shape == (1, 7)


def test_errors_are_one_line(run, nets: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text("notes\n")
    target = tmp_path / "net.onnx"
    for arguments, code, words in (
        (("generate", "val", "--count", 5, "-o", other), 1, "exists already"),
        (("generate", "val", "--count", 5, "-o", tmp_path / "absent" / "n.jsonl"), 1, "there is no folder"),
        (("generate", "val", "--count", 5, "-o", tmp_path / "n.jsonl", "--official"), 2, "must end in .hdf5"),
        (("generate", "val", "--count", 0, "-o", tmp_path / "n.jsonl"), 2, "--count"),
        (("generate", "teapot", "--count", 1, "-o", tmp_path / "n.jsonl"), 2, "teapot"),
        (("generate", "val", "--count", 5, "-o", tmp_path / "n.jsonl", "--workers", 0), 1, "0 workers"),
        (("info", other), 1, "not a file of architectures"),
        (("info", tmp_path / "absent.hdf5"), 1, "no such file"),
        (("export", nets, "--index", 99, "-o", target), 1, "no architecture 99 in split wide"),
        (("export", nets, "--split", "val", "--index", 1, "-o", target), 1, "no split 'val'"),
        (("export", nets, "--index", 1, "-o", nets), 1, "exists already"),
        (("export", nets, "--index", 1, "-o", target, "--C", 1 << 20), 1, "C is 1048576"),
    ):
        outcome = run(*arguments)
        lines = [line for line in outcome.err.splitlines() if line.lower().startswith("error: ")]
        assert outcome.code == code, outcome
        assert len(lines) == 1, outcome.err
        assert words in lines[0]
        assert "Traceback" not in outcome.err
        assert "unexpected" not in outcome.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other.jsonl"]


def test_help_loads_no_numpy() -> None:
    code = (
        "import sys\nfrom onnx_ghn.cli import cli\n"
        "for words in (['--help'], ['deepnets', '--help'], ['deepnets', 'generate', '--help']):\n"
        "    cli.main(words, standalone_mode=False)\n"
        "assert not {'numpy', 'torch', 'onnx', 'h5py'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
