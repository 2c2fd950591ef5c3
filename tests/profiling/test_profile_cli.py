"""`onnx-ghn profile` as a user runs it: tables, files, and one line for whatever is wrong."""

from __future__ import annotations

import json
import subprocess
import sys

import cli_models as models
import numpy as np
import onnx
import pytest
from cli_tools import command, one_line, snapshot
from onnx import helper
from shape_models import text_net

QUICK = ("--iterations", "3", "--warmup", "1", "--threads", "1")
WHOLE = (*QUICK, "--no-operators")


@pytest.fixture
def path(save) -> str:
    return save(models.conv_net())


def test_tables_and_files(path, tmp_path) -> None:
    pytest.importorskip("matplotlib")
    files = {"--csv": "a.csv", "--operators-csv": "o.csv", "--trace": "t.json", "--plot": "p.png"}
    arguments = [part for option, name in files.items() for part in (option, tmp_path / name)]
    outcome = command("profile", path, *QUICK, *arguments)
    assert outcome.code == 0, outcome.err
    assert outcome.err == ""
    for word in ("p99.9", "items/s", "Conv+BN+Relu", "Gflop/s", "recorded run", "peak", "± std", "MACs"):
        assert word in outcome.out
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.csv", "models", "o.csv", "p.png", "t.json"]
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    again = command("profile", path, *WHOLE, "--csv", tmp_path / "a.csv")
    one_line(again, "exists already", "--force")


def test_json(path) -> None:
    outcome = command("profile", path, *QUICK, "--json", "--shape", "2x3x8x8")
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out)
    (point,) = told["points"]
    assert point["inputs"] == [{"name": "x", "dtype": "float32", "shape": [2, 3, 8, 8]}]
    assert point["latency"]["n_runs"] == 3
    assert {"p50_ms", "p90_ms", "p95_ms", "p99_ms", "p99_9_ms", "mean_ms", "std_ms"} <= point["latency"].keys()
    assert {"peak_flops", "memory_bytes_per_s"} <= point["machine"].keys()
    assert point["operators"]["macs"] == 2 * (8 * 8 * 8 * 3 * 9 + 8 * 8 * 8 * 8 * 9 + 8 * 10)


def test_against_and_outputs(path, save) -> None:
    proto = models.conv_net()
    bias = next(t for t in proto.graph.initializer if t.name == "head.bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.ones(10, np.float32), "head.bias"))
    outcome = command("profile", save(proto, "b.onnx"), "--against", path, "--compare-outputs", *WHOLE)
    assert outcome.code == 0, outcome.err
    assert "both in one process, in turn" in outcome.out
    n_nodes = len(proto.graph.node)
    assert f"{n_nodes - 1} of {n_nodes} outputs are close" in outcome.out
    assert f"the first that is not: {proto.graph.node[-1].output[0]}" in outcome.out


def test_input_files(path, tmp_path) -> None:
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 3, 8, 8), np.float32))
    outcome = command("profile", path, *WHOLE, "--inputs", tmp_path / "x.npz", "--json")
    assert json.loads(outcome.out)["points"][0]["batch"] == 5


def test_shapes_and_lengths(save, tmp_path) -> None:
    path = save(text_net())
    outcome = command("profile", path, *WHOLE, "--shape", "ids:1x16,4x32", "--csv", tmp_path / "a.csv")
    assert outcome.code == 0, outcome.err
    for word in ("first run", "1×16", "4×32"):
        assert word in outcome.out
    assert "ids:4x32" in (tmp_path / "a.csv").read_text().splitlines()[2]
    (tmp_path / "lengths.txt").write_text("4\n8\n")
    outcome = command("profile", path, *WHOLE, "--lengths", tmp_path / "lengths.txt")
    assert "sequence drawn from 2 lengths: p50" in outcome.out
    outcome = command("profile", path, *WHOLE, "--size", "sequence=7", "--size", "batch=2", "--json")
    (point,) = json.loads(outcome.out)["points"]
    assert point["sizes"] == {"sequence": 7, "batch": 2}
    assert [one["shape"] for one in point["inputs"]] == [[2, 7], [2, 7]]
    assert point["memory"]["peak_bytes"] > 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--size", "sequence"), "must be SYMBOL=N"),
        (("--size", "sequence=x"), "must be SYMBOL=N"),
        (("--size", "sequence=-1"), "must be SYMBOL=N"),
        (("--size", "words=3"), "ids [batch, sequence]"),
        (("--size", "sequence=3", "--size", "sequence=4"), "--size sequence: has two lists"),
        (("--size", "sequence=999999999"), "more than half of this machine's memory"),
        (("--shape", "1x16"), "say of which input"),
        (("--shape", "ids:1x16,1x"), "is no shape"),
        (("--shape", "ids:1x16,16"), "has 1 dimensions"),
        (("--shape", "ids:1x16", "--shape", "ids:1x32"), "has two; write them with a comma"),
        (("--shape", "ids:1x16", "--shape", "mask:1x32"), "symbol 'sequence' is 16 by input 'ids' and 32"),
        (("--lengths", "absent.txt"), "cannot be read"),
        (("--lengths", "sequence="), "names no file"),
        (("--lengths", "words=l.txt"), "no input has that symbol"),
        (("--lengths", "l.txt", "--size", "sequence=3"), "--lengths draws the size of that symbol"),
        (("--lengths", "l.txt", "--inputs", "x.npz"), "leave --batch"),
        (("--lengths", "l.txt", "--csv", "l.txt", "--force"), "l.txt"),
        (("--fail-above", "lengths.p50=3"), "no lengths are drawn"),
        (("--size", "sequence=3,4", "--fail-above", "peak_bytes=3"), "points share a process"),
    ],
)
def test_bad_shapes(save, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(text_net())
    (tmp_path / "l.txt").write_text("4\n8\n")
    np.savez(tmp_path / "x.npz", ids=np.zeros((1, 2), np.int64), mask=np.zeros((1, 2), np.float32))
    before = snapshot(tmp_path)
    one_line(command("profile", path, *WHOLE, *options), words)
    assert snapshot(tmp_path) == before


def test_part_of_a_sweep_fails(path, tmp_path) -> None:
    """A shape that only one of the two models takes; the other's figures are printed and written."""
    import onnxruntime

    absent = next(n for n in onnxruntime.get_all_providers() if n not in onnxruntime.get_available_providers())
    outcome = command("profile", path, *WHOLE, "--provider", f"cpu,{absent}", "--csv", tmp_path / "a.csv")
    assert outcome.code == 1
    assert "CPU" in outcome.out
    assert len(outcome.lines) == 1
    assert "is not in this build" in outcome.lines[0]
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--batch", "0"), "0"),
        (("--batch", "1,x"), "is no number"),
        (("--batch", "1000000000"), "more than half of this machine's memory"),
        (("--shape", "1x3xa"), "is no shape"),
        (("--shape", "1x3x8"), "has 3 dimensions, input 'x' has 4"),
        (("--shape", "y:1x3x8x8"), "no input 'y'"),
        (("--shape", "1x4x8x8"), "onnxruntime cannot run the model"),
        (("--provider", "abacus"), "onnxruntime knows"),
        (("--optimization", "most"), "none, basic, extended, all"),
        (("--seconds", "-1"), "must be more than 0"),
        (("--seconds", "nan"), "must be more than 0"),
        (("--timeout", "0.001"), "still runs after 0.001 s"),
        (("--pin", "4000"), "no processor 4000"),
        (("--inputs", "absent.npz"), "cannot be read"),
        (("--custom-op-library", "absent.so"), "is no file"),
        (("--against", "absent.onnx"), "no such file"),
        (("--compare-outputs",), "--against"),
        (("--estimate", "--against", "b.onnx"), "leave --against out"),
        (("--plot", "p.gif"), ".svg"),
        (("--csv", "/absent/a.csv"), "/absent"),
        (("--csv", "a", "--operators-csv", "a"), "the same file"),
        (("--trace", "t.json"), "leave --no-operators"),
    ],
)
def test_bad_input(path, tmp_path, monkeypatch, options, words) -> None:
    monkeypatch.chdir(tmp_path)
    before = snapshot(tmp_path)
    seconds = () if "--seconds" in options else WHOLE[:4]
    outcome = command("profile", path, *seconds, *WHOLE[4:], *options)
    one_line(outcome, words)
    assert outcome.out == ""
    assert snapshot(tmp_path) == before


def test_bad_models(tmp_path, save) -> None:
    for content, words in ((b"", "is empty"), (b"text", "is text"), (b"\x08\x07\xff\xff", "is not an ONNX model")):
        bad = tmp_path / "bad.onnx"
        bad.write_bytes(content)
        one_line(command("profile", bad, *WHOLE), str(bad), words)
    custom = models.conv_net()
    custom.graph.node.insert(0, helper.make_node("Magic", ["x"], ["magic"], domain="my.ops"))
    custom.opset_import.append(helper.make_opsetid("my.ops", 1))
    one_line(command("profile", save(custom), *WHOLE), "Magic", "--custom-op-library")


def test_help_is_light() -> None:
    code = "import sys; from onnx_ghn.cli import main\ntry: main(['profile', '--help'])\nexcept SystemExit: pass\n"
    code += "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "onnx", "onnxruntime", "torch", "rich", "scipy", "matplotlib"} & set(run.stderr.split())
    assert "--against" in run.stdout
