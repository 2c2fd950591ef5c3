"""Each command as a user runs it: what it prints, writes and answers, and what it does not load."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import cli_models as models
import io_models as m
import numpy as np
import onnx
import pytest
from cli_tools import command, one_line, snapshot
from graph_models import Net
from onnx import helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("predict", "inspect", "draw", "strip", "ghns")


@pytest.fixture
def path(tmp_path) -> Path:
    """A small convolutional net in a folder of its own."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(models.conv_net().SerializeToString())
    return folder / "net.onnx"


@pytest.fixture
def target(tmp_path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "out.onnx"


def shell(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m onnx_ghn` in a process of its own."""
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "onnx_ghn", *map(str, arguments)], cwd=ROOT, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": search, **environment}, capture_output=True, text=True,
    )  # fmt: skip


# -- help and what is loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help(name, flag):
    outcome = command(name, flag)
    assert outcome.code == 0
    assert outcome.err == ""
    assert outcome.out.startswith(f"Usage: onnx-ghn {name}")


def test_help_lists_every_command():
    outcome = command("--help")
    assert outcome.code == 0
    assert all(f"  {name} " in outcome.out for name in COMMANDS)
    assert "..." not in outcome.out.split("Commands:")[1], "a line of it is cut at 80 columns"
    from onnx_ghn import __version__

    assert __version__ in command("--version").out


_HEAVY = {
    "torch",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "scipy",
    "networkx",
    "rich",
    "PIL",
    "matplotlib",
    "tensorflow",
    "jax",
}


@pytest.mark.parametrize(
    "code",
    ["import onnx_ghn", "import onnx_ghn.cli", "import onnx_ghn; dir(onnx_ghn)", *(
        f"import onnx_ghn.cli, contextlib\nwith contextlib.suppress(SystemExit): onnx_ghn.cli.main({arguments})"
        for arguments in (["--help"], ["predict", "--help"], ["--version"], ["predict"])
    )],
)  # fmt: skip
def test_nothing_heavy_is_loaded(code):
    code += "\nimport sys; print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not _HEAVY & set(run.stderr.splitlines()[-1].split())


def test_reading_needs_no_torch(path, tmp_path):
    code = (
        "import sys, onnx_ghn.cli as c, contextlib\n"
        "for a in (['inspect', sys.argv[1]], ['draw', sys.argv[1], '-o', sys.argv[2] + '.svg'], "
        "['strip', sys.argv[1], '-o', sys.argv[2]]):\n"
        "    c.main(a)\n"
        "print(*(n for n in ('torch', 'onnxruntime', 'matplotlib') if n in sys.modules), file=sys.stderr)"
    )
    arguments = [sys.executable, "-c", code, str(path), str(tmp_path / "s.onnx")]
    run = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stderr.split() == []


# -- predict -----------------------------------------------------------------------------------------------


def test_predict(path, target, ghn_folder):
    before = snapshot(path.parent)
    outcome = command("predict", path, "-o", target, "--ghn", ghn_folder)
    assert outcome.code == 0
    assert outcome.err == "ghn2 is untrained (seed 0): a well-scaled random initialisation\n"
    assert "100.00%" in outcome.out
    assert f"{target}: weights by ghn2" in outcome.out
    assert snapshot(path.parent) == before
    given, taken = onnx.load(str(path)), onnx.load(str(target))
    assert [node.op_type for node in given.graph.node] == [node.op_type for node in taken.graph.node]
    onnx.checker.check_model(taken, full_check=True)
    for old, new in zip(given.graph.initializer, taken.graph.initializer, strict=True):
        assert (old.name, list(old.dims), old.data_type) == (new.name, list(new.dims), new.data_type)
        assert old.SerializeToString() != new.SerializeToString()
        assert np.isfinite(numpy_helper.to_array(new)).all()


def test_predict_json(path, target, ghn_folder):
    outcome = command("predict", path, "-o", target, "--ghn", ghn_folder, "--json")
    report = json.loads(outcome.out)
    assert set(report) == {
        "input", "output", "ghn", "n_trainable_elements", "tensors", "elements", "share_predicted", "may_be_learned",
        "policy", "told", "notes", "parameters", "constants",
    }  # fmt: skip
    assert report["policy"] == {"name": "all", "why": "ghn2 comes without a policy"}
    assert report["input"] == str(path)
    assert report["output"] == str(target)
    assert report["share_predicted"] == 1.0
    assert report["tensors"] == {"predicted": 8, "fallback": 0, "kept": 0, "statistic": 4, "frozen": 0}
    assert sum(report["elements"].values()) == sum(p["n_elements"] for p in report["parameters"])
    keys = {"name", "role", "shape", "n_elements", "dtype", "storage", "op", "outcome", "reason"}
    assert all(set(parameter) == keys for parameter in report["parameters"])


def test_same_seed_same_bytes(path, target, ghn_folder):
    options = ("--ghn", ghn_folder, "--force", "--post", "noise", "--seed")
    written = []
    for seed in (1, 1, 2):
        assert command("predict", path, "-o", target, *options, seed).code == 0
        written.append(target.read_bytes())
    assert written[0] == written[1] != written[2]


@pytest.mark.parametrize(
    ("options", "predicted"),
    [(("--include", "block"), 1), (("--exclude", "bn"), 4), (("--include", "weight", "--exclude", "^bn"), 3),
     (("--include", "stem", "--include", "head"), 3)],
)  # fmt: skip
def test_include_and_exclude(path, target, ghn_folder, options, predicted):
    outcome = command("predict", path, "-o", target, "--ghn", ghn_folder, "--json", "--calibrate", "none", *options)
    report = json.loads(outcome.out)
    assert report["tensors"]["predicted"] == predicted
    names = {p["name"] for p in report["parameters"] if p["outcome"] == "predicted"}
    for old, new in zip(onnx.load(str(path)).graph.initializer, onnx.load(str(target)).graph.initializer, strict=True):
        assert (old.SerializeToString() == new.SerializeToString()) == (old.name not in names)


@pytest.mark.parametrize("fallback", ["standard", "keep"])
def test_fallback(target, tmp_path, ghn_folder, fallback):
    proto = models.one_op("PRelu", (4,))
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    options = ("--fallback", fallback, "--ghn", ghn_folder)
    outcome = command("predict", tmp_path / "m.onnx", "-o", target, *options)
    assert outcome.code == 0
    assert ("kept" if fallback == "keep" else "fallback") in outcome.out
    assert "slopes of PRelu" in outcome.out
    slopes = numpy_helper.to_array(onnx.load(str(target)).graph.initializer[0])
    kept = np.array_equal(slopes, numpy_helper.to_array(proto.graph.initializer[0]))
    assert kept == (fallback == "keep")


def test_post(path, target, ghn_folder):
    written = set()
    for options in ([], ["--post", "noise"], ["--post", "orthogonal"], ["--post", "noise", "--post-strength", "0.5"]):
        assert command("predict", path, "-o", target, "--ghn", ghn_folder, "--force", *options).code == 0
        written.add(target.read_bytes())
    assert len(written) >= 1  # all tensors of this net fit the GHN; a wider one differs
    wide = path.parent / "wide.onnx"
    wide.write_bytes(models.conv_net(24).SerializeToString())
    written.clear()
    for options in ([], ["--post", "noise"], ["--post", "orthogonal"], ["--post", "noise", "--post-strength", "0.5"]):
        assert command("predict", wide, "-o", target, "--ghn", ghn_folder, "--force", *options).code == 0
        written.add(target.read_bytes())
    assert len(written) == 4


def test_calibration_from_a_folder(path, target, tmp_path, ghn_folder):
    from PIL import Image

    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(random.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    found = []
    for source in ("none", "noise", folder):
        assert command("predict", path, "-o", target, "--ghn", ghn_folder, "--calibrate", source, "--force").code == 0
        tensors = {t.name: numpy_helper.to_array(t) for t in onnx.load(str(target)).graph.initializer}
        found.append(tensors["bn1.mean"])
    assert not np.array_equal(found[0], found[1])
    assert not np.array_equal(found[1], found[2])


def test_the_default_ghn(path, target):
    """Bundled, or a GHN-2 from seed 0 that says so."""
    outcome = command("predict", path, "-o", target, "--calibrate", "none", "--json")
    assert outcome.code == 0
    assert json.loads(outcome.out)["ghn"]
    assert outcome.lines == []


@pytest.mark.parametrize("name", ["predict", "strip", "draw"])
def test_an_existing_output(path, tmp_path, ghn_folder, name):
    target = tmp_path / ("o.dot" if name == "draw" else "o.onnx")
    target.write_text("mine")
    options = ("--ghn", ghn_folder) if name == "predict" else ()
    one_line(command(name, path, "-o", target, *options), "--force")
    assert target.read_text() == "mine"
    assert command(name, path, "-o", target, "--force", *options).code == 0
    assert target.read_bytes() != b"mine"
    assert {p.name for p in tmp_path.iterdir()} == {"in", target.name}


def test_an_output_in_the_place_of_weights(tmp_path, ghn_folder):
    m.save_external(m.mlp(), tmp_path / "m.onnx")
    before = snapshot(tmp_path)
    outcome = command("predict", tmp_path / "m.onnx", "-o", tmp_path / "m.onnx.data", "--force", "--ghn", ghn_folder)
    one_line(outcome, "name another file")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ("name", "ending", "option"),
    [
        ("predict", ".onnx", "-o"), ("strip", ".onnx", "-o"), ("draw", ".svg", "-o"), ("report", ".html", "-o"),
        ("profile", ".csv", "--csv"), ("profile", ".csv", "--operators-csv"), ("profile", ".json", "--trace"),
        ("profile", ".svg", "--plot"),
    ],
)  # fmt: skip
def test_an_output_in_the_place_of_what_is_read(tmp_path, name, ending, option):
    """Neither the model nor its weights are written over, whatever they are called."""
    model, weights = tmp_path / f"net{ending}", tmp_path / f"weights{ending}"
    onnx.save(m.mlp(), str(tmp_path / "m"), save_as_external_data=True, location=weights.name, size_threshold=0)
    (tmp_path / "m").rename(model)
    (tmp_path / f"link{ending}").symlink_to(model.name)
    before = snapshot(tmp_path)
    one_line(command(name, model, option, model, "--force"), "is the file that is read")
    one_line(command(name, tmp_path / f"link{ending}", option, model, "--force"), "is the file that is read")
    one_line(command(name, model, option, weights, "--force"), "holds weights of the model", "name another file")
    assert snapshot(tmp_path) == before


def test_output_of_a_link_replaces_the_link(path, target, ghn_folder):
    other = target.parent / "other"
    other.write_text("other")
    target.symlink_to(other)
    assert command("predict", path, "-o", target, "--force", "--ghn", ghn_folder).code == 0
    assert other.read_text() == "other"
    assert not target.is_symlink()


def test_the_output_appears_whole(path, target, ghn_folder, monkeypatch):
    """Until the last call there is no file of that name, and then all of it."""
    seen = []
    replace = os.replace

    def watched(source, destination, **kwargs):
        if destination == str(target):
            seen.append((target.exists(), os.path.getsize(source)))
        return replace(source, destination, **kwargs)

    monkeypatch.setattr(os, "replace", watched)
    assert command("predict", path, "-o", target, "--ghn", ghn_folder).code == 0
    assert seen == [(False, target.stat().st_size)]


# -- inspect -----------------------------------------------------------------------------------------------


def test_inspect(path):
    outcome = command("inspect", path)
    assert outcome.code == 0
    assert outcome.err == ""
    for word in ("stem.weight", "bn1.mean", "statistic", "100.00%", "trainable elements"):
        assert word in outcome.out
    nodes = command("inspect", path, "--nodes").out
    assert "glob_avg" in nodes
    assert "glob_avg" not in outcome.out


def test_inspect_json(path, ghn_folder):
    for options in (["--policy", "all"], ["--policy", "all", "--nodes"], ["--ghn", ghn_folder]):
        found = json.loads(command("inspect", path, "--json", *options).out)
        assert set(found) == {"name", "nodes", "edges", "coverage"}
        assert {node["primitive"] for node in found["nodes"]} >= {"input", "conv", "bn", "sum", "glob_avg", "bias"}
        assert all(0 <= a < b < len(found["nodes"]) for a, b in found["edges"])
        assert found["coverage"]["share_predicted"] == 1.0


def test_inspect_agrees_with_predict(path, target, ghn_folder):
    inspected = json.loads(command("inspect", path, "--policy", "all", "--json").out)["coverage"]
    predicted = json.loads(command("predict", path, "-o", target, "--json", "--ghn", ghn_folder).out)
    for key in ("tensors", "elements", "parameters"):
        assert inspected[key] == predicted[key]


def test_names_are_printed_as_they_are(tmp_path, ghn_folder):
    """Names in a file are neither markup nor orders to a terminal."""
    names = ["[/red]", "[bold]b", ":smile:", "a\x1b[31mred", "line\nbreak", "ünïcode"]
    net = Net()
    x = net.input(1, 4)
    for name in names:
        x = net.op("PRelu", net.linear(x, 4, 4, name), net.weight(4, name=f"s{name}"))
    path = tmp_path / "[x].onnx"
    path.write_bytes(net.model(x).SerializeToString())
    outcome = command("inspect", path, "--nodes")
    assert outcome.code == 0, outcome.err
    for shown in ("[/red]", "[bold]b", ":smile:", "a\\x1b[31mred", "line\\nbreak", "ünïcode"):
        assert shown in outcome.out
    assert "\x1b" not in outcome.out
    outcome = command("predict", path, "-o", tmp_path / "[o].onnx", "--ghn", ghn_folder)
    assert outcome.code == 0, outcome.err
    assert "[o].onnx" in outcome.out


# -- draw, strip, ghns -------------------------------------------------------------------------------------


def test_draw(path, tmp_path):
    outcome = command("draw", path, "-o", tmp_path / "g.svg")
    assert outcome.code == 0
    assert "nodes" in outcome.out
    assert ElementTree.parse(tmp_path / "g.svg").getroot().tag.endswith("svg")
    for rules in ("onnx", "ppuda", "ghn3"):
        assert command("draw", path, "-o", tmp_path / "g.dot", "--rules", rules, "--force", "--no-labels").code == 0
        assert (tmp_path / "g.dot").read_text().startswith("digraph")
    one_line(command("draw", path, "-o", tmp_path / "g.txt"), "svg")
    assert command("draw", path, "-o", tmp_path / "g.svg", "--rules", "x").code == 2


def test_strip_and_predict(path, tmp_path, target, ghn_folder):
    before = snapshot(path.parent)
    stripped = tmp_path / "s.onnx"
    outcome = command("strip", path, "-o", stripped)
    assert outcome.code == 0
    assert outcome.out.startswith(f"{stripped}: ")
    assert snapshot(path.parent) == before
    assert stripped.stat().st_size < path.stat().st_size
    whole = json.loads(command("predict", path, "-o", target, "--ghn", ghn_folder, "--json").out)
    again = json.loads(command("predict", stripped, "-o", target, "--ghn", ghn_folder, "--json", "--force").out)
    assert again["elements"] == whole["elements"]


def test_ghns():
    outcome = command("ghns")
    assert outcome.code == 0
    assert outcome.err == ""
    assert "GHN" in outcome.out or "ghn" in outcome.out
    found = json.loads(command("ghns", "--json").out)
    assert all(set(row) == {"name", "path", "description", "dataset"} for row in found)


# -- exit codes and errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["predict", "inspect", "draw", "strip"])
def test_a_missing_file(tmp_path, name):
    options = () if name == "inspect" else ("-o", tmp_path / "o.svg")
    outcome = command(name, tmp_path / "none.onnx", *options)
    assert outcome.code == 1
    one_line(outcome, "none.onnx", "no such file")


@pytest.mark.parametrize("name", ["inspect", "draw", "strip"])
def test_a_damaged_file(tmp_path, path, name):
    """Every command reads as `predict` does; that one has tests of its own."""
    data = path.read_bytes()
    for end in (0, 10, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:end])
        options = () if name == "inspect" else ("-o", tmp_path / ("o.svg" if name == "draw" else "o.onnx"))
        one_line(command(name, path, *options), str(path))
    assert not list(tmp_path.glob("o.*"))


def test_strip_refuses_old_opsets(tmp_path):
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
    proto = m.model(nodes, [m.info("x", 1, 8)], [m.info("y", 1, 8)], [m.init("w", 8, 8)], opset=7)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    one_line(command("strip", tmp_path / "m.onnx", "-o", tmp_path / "o.onnx"), "opset 7")


def test_debug_shows_where(tmp_path):
    """In a process of its own: it is Python that prints the traceback."""
    quiet, debug = (shell(*flags, "inspect", tmp_path / "none.onnx") for flags in ((), ("--debug",)))
    assert (quiet.returncode, debug.returncode) == (1, 1)
    assert len(quiet.stderr.splitlines()) == 1
    assert quiet.stdout == ""
    assert "Traceback" in debug.stderr
    assert "ModelReadError" in debug.stderr


def test_as_a_module(path, target, ghn_folder):
    run = shell("predict", path, "-o", target, "--ghn", ghn_folder, PYTHONIOENCODING="ascii")
    assert run.returncode == 0, run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert target.exists()
    assert shell("nothing").returncode == 2


def test_a_reader_that_stops(path):
    """`onnx-ghn inspect m.onnx | head -0`: no traceback."""
    search = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-m", "onnx_ghn", "inspect", str(path), "--json"], cwd=ROOT, text=True,
        env={**os.environ, "PYTHONPATH": search}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait() in (0, 1)
    assert told == ""


def test_a_full_terminal_log(path):
    """What is printed cannot be written: one line."""
    with open("/dev/full", "w") as full:
        run = subprocess.run(
            [sys.executable, "-m", "onnx_ghn", "inspect", str(path)], cwd=ROOT, stdout=full, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)}, text=True, check=False,
        )  # fmt: skip
    assert run.returncode != 0
    assert len(run.stderr.splitlines()) == 1, run.stderr
    assert "no space left" in run.stderr.lower()
    assert "unexpected" not in run.stderr


def test_an_interrupt(path, target, ghn_folder, monkeypatch):
    from onnx_ghn.ghn import ArrayGHN

    def stops(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ArrayGHN, "blocks", stops)
    outcome = command("predict", path, "-o", target, "--ghn", ghn_folder)
    assert outcome.code == 130
    assert outcome.lines == ["interrupted"]
    assert list(target.parent.iterdir()) == []


def test_what_nobody_foresaw_is_one_line_too(path, target, ghn_folder, monkeypatch):
    from onnx_ghn.ghn import ArrayGHN

    def breaks(*_):
        raise RuntimeError("a\nb")

    monkeypatch.setattr(ArrayGHN, "blocks", breaks)
    outcome = command("predict", path, "-o", target, "--ghn", ghn_folder)
    assert outcome.code == 1
    assert outcome.lines == [
        "error: unexpected RuntimeError: a b; run again with `onnx-ghn --debug` and report what it prints"
    ]
    monkeypatch.setattr(ArrayGHN, "blocks", lambda *_: bytearray(1 << 62))
    assert "out of memory" in command("predict", path, "-o", target, "--ghn", ghn_folder).err
