"""`predict --from`: what the command says of what is inherited."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from cli_tools import command, python
from onnx import TensorProto, helper, numpy_helper

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"


def _network(width: int, seed: int) -> onnx.ModelProto:
    draw = np.random.default_rng(seed)
    shapes = {
        "up.w": (width, 4),
        "up.b": (width,),
        "norm.scale": (width,),
        "norm.shift": (width,),
        "down.w": (3, width),
    }
    tensors = [
        numpy_helper.from_array(draw.standard_normal(shape).astype(np.float32), name) for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "up.w", "up.b"], ["a"], transB=1),
        helper.make_node("LayerNormalization", ["a", "norm.scale", "norm.shift"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("Gemm", ["c", "down.w"], ["y"], transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    onnx.save(_network(8, 0), tmp_path / "donor.onnx")
    onnx.save(_network(16, 1), tmp_path / "wide.onnx")
    return tmp_path / "donor.onnx", tmp_path / "wide.onnx"


def test_the_table_names_the_rule_of_each_tensor(files: tuple[Path, Path], tmp_path: Path) -> None:
    donor, wide = files
    picture = tmp_path / "alignment.svg"
    told = command("predict", wide, "--from", donor, "-o", tmp_path / "init.onnx", "--explain", "--alignment", picture)
    assert told.code == 0, told.err
    words = " ".join(told.out.split())
    assert "out 8 → 16" in words
    assert "inherited from donor.onnx" in words
    assert "are kept" in words
    assert picture.is_file()


def test_json_names_the_donor(files: tuple[Path, Path], tmp_path: Path) -> None:
    import json

    donor, wide = files
    told = command("predict", wide, "--from", donor, "-o", tmp_path / "init.onnx", "--json")
    rows = json.loads(told.out)["parameters"]
    assert {row["origin"]["donor"] for row in rows} == {"donor.onnx"}
    assert all(row["origin"]["exact"] for row in rows)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--explain"], "--from"),
        (["--blend", "0.5"], "--from"),
        (["--from", "absent.onnx"], "cannot be read"),
        (["--from", "wide.onnx", "--blend", "2"], "--blend"),
        (["--selection", "norm"], "--from"),
        (["--classes", "a.txt:b.txt"], "--classes has no meaning without --from"),
        (["--from", "donor.onnx", "--classes", "a.txt"], "--classes 'a.txt' names no two files"),
        (["--from", "donor.onnx", "--vocabulary", "a.txt:b.txt"], "--vocabulary a.txt cannot be read"),
        (["--from", "donor.onnx", "--data", "pictures", "--budget", "9"], "leave out --budget, or --from"),
        (["--from", "donor.onnx", "--data", "pictures", "--budget", "9", "--explain"], "or --from and --explain"),
        (
            ["--from", "donor.onnx", "--budget", "9", "--explain", "--alignment", "a.svg"],
            "or --from and --explain and --alignment",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(
    files: tuple[Path, Path], options: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = command("predict", "wide.onnx", "-o", "init.onnx", *options)
    assert told.code != 0
    assert len(told.lines) == 1, told.err
    assert words in told.lines[0]
    assert not (tmp_path / "init.onnx").exists()


@pytest.mark.parametrize("words", ["inspect", "draw -o m.svg", "strip -o m.onnx", "predict -o m.onnx"])
def test_without_a_donor_nothing_of_donors_is_imported(words: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    code = """
        import sys, contextlib, onnx_ghn.cli
        with contextlib.suppress(SystemExit): onnx_ghn.cli.main(sys.argv[1:])
        print(*(name for name in sys.modules if name.startswith("onnx_ghn.inheritance")), file=sys.stderr)
    """
    name, *rest = words.split()
    given = [tmp_path / word if "." in word else word for word in rest]
    run = python(code, name, files[1], *given)
    assert run.stderr.split() == [], run.stderr
    if name == "predict":
        assert (tmp_path / "m.onnx").is_file()
        run = python(code, name, files[1], *given, "--force", "--from", files[0])
        assert "onnx_ghn.inheritance.inheriting" in run.stderr.split()


def test_a_race_in_the_library_refuses_donors(files: tuple[Path, Path], tmp_path: Path) -> None:
    from onnx_ghn.errors import OptionError
    from onnx_ghn.finetuning import choose_start
    from onnx_ghn.prediction.options import PredictOptions

    with pytest.raises(OptionError, match="`donors` have no place in a race"):
        choose_start(files[1], tmp_path, options=PredictOptions(donors=(str(files[0]),)))


def test_classes_are_read_from_files(files: tuple[Path, Path], tmp_path: Path) -> None:
    from onnx_ghn.onnx_io import read_model, stored_tensors

    donor, wide = files
    (tmp_path / "theirs.txt").write_text("cat\ndog\nbird\n")
    (tmp_path / "ours.json").write_text('{"0": "Bird", "1": "Cat", "2": "Dog"}')
    names = f"{tmp_path / 'theirs.txt'}:{tmp_path / 'ours.json'}"
    plain, named = tmp_path / "plain.onnx", tmp_path / "named.onnx"
    assert command("predict", wide, "--from", donor, "-o", plain).code == 0
    told = command("predict", wide, "--from", donor, "-o", named, "--classes", names, "--explain")
    assert told.code == 0, told.err
    assert "3 of 3 rows by name" in " ".join(told.out.split())
    before, after = (stored_tensors(read_model(path))["down.w"].numpy() for path in (plain, named))
    np.testing.assert_array_equal(after, before[[2, 0, 1]])


def test_a_model_that_the_ghn_does_not_know_is_pointed_to_donors(files: tuple[Path, Path], tmp_path: Path) -> None:
    donor, wide = files
    hint = "--from DONOR.onnx"
    assert hint in command("predict", EXAMPLES / "gpt_like.onnx", "-o", tmp_path / "1.onnx").out
    for model, *options in (
        (EXAMPLES / "resnet18_cifar10.onnx",),
        (EXAMPLES / "gpt_like.onnx", "--policy", "all"),
        (EXAMPLES / "gpt_like.onnx", "--json"),
        (wide, "--from", donor),
        (donor,),
    ):
        told = command("predict", model, "-o", tmp_path / "2.onnx", "--force", *options)
        assert told.code == 0, told.err
        assert hint not in told.out
