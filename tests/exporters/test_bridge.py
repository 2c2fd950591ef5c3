"""Options of a bridge, which are looked at before any work, and the weights whose digits it keeps."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_ghn
from onnx_ghn.errors import GraphError, OptionError
from onnx_ghn.exporters import pytorch
from onnx_ghn.exporters.bridge import Bridge, converting
from onnx_ghn.exporters.initializing import rounded_by_float32

EXPORTERS = Path(pytorch.__file__).parent


def named(model: object, example_inputs: object = None, *, signature: object = None) -> Any:
    raise AssertionError("the work has begun")


def open_to_all(model: object, example_inputs: object = None, **options: object) -> Any:
    raise AssertionError("the work has begun")


@pytest.mark.parametrize("bridge", [Bridge(named), Bridge(open_to_all, ("signature",))])
@pytest.mark.parametrize(
    ("call", "option", "words"),
    [
        ("export", "signatur", "no option of this framework's exporter; did you mean signature?"),
        ("export", "seed", "`seed` is no option of this framework's exporter"),  # it predicts nothing
        ("load", "signatur", "did you mean signature?"),
        ("load", "policy", "`policy` is no option of this framework's exporter"),
        ("initialize", "signatur", "did you mean signature?"),
        ("initialize", "polcy", "no option of a prediction, nor of this framework's exporter; did you mean policy?"),
    ],
)
def test_an_unknown_option_is_told_before_any_work(
    bridge: Bridge[object], call: str, option: str, words: str, tmp_path: Path
) -> None:
    where = () if call == "initialize" else (tmp_path / "m.onnx",)
    with pytest.raises(OptionError) as caught:
        getattr(bridge, call)(object(), *where, **{option: 1})
    assert words in str(caught.value)
    with pytest.raises(AssertionError, match="the work has begun"):
        getattr(bridge, call)(object(), *where, signature=1)


def test_a_module_s_options_are_looked_at_first(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"`opset_verson` is no option .*did you mean opset_version\?"):
        pytorch.LiveModule(object(), None, opset_verson=17)  # type: ignore[arg-type, call-arg]
    with pytest.raises(OptionError, match=r"`polcy` is no option of a prediction.*did you mean policy\?"):
        onnx_ghn.initialize(object(), None, polcy="all")  # type: ignore[arg-type, call-arg]
    with pytest.raises(OptionError, match="`seed` is no option of this framework's exporter"):
        pytorch.export(object(), tmp_path / "m.onnx", None, seed=3)  # type: ignore[arg-type, call-arg]


def test_originals_are_those_that_float32_rounds() -> None:
    third = np.full(3, 1 / 3)
    weights = {
        "rounded": third,
        "exact": np.array([0.5, -2.0, 3.0]),
        "single": third.astype(np.float32),
        "half": third.astype(np.float16),
        "no number": np.array([np.nan, 1.0]),
        "too large": np.array([1e300]),
        "empty": np.zeros(0),
    }
    assert rounded_by_float32(weights).keys() == {"rounded", "too large"}
    assert rounded_by_float32(weights)["rounded"] is third


@pytest.mark.parametrize("path", sorted(EXPORTERS.glob("*.py")), ids=lambda path: path.stem)
def test_a_bridge_names_the_options_that_its_adapter_hands_on(path: Path) -> None:
    """Read from the source, since most frameworks are not installed here: `**options` without names takes none."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        if not (isinstance(call.func, ast.Name) and call.func.id == "Bridge" and isinstance(call.args[0], ast.Name)):
            continue
        made = classes.get(call.args[0].id)
        functions = [node for node in (made.body if made else tree.body) if isinstance(node, ast.FunctionDef)]
        name = "__init__" if made else call.args[0].id
        (function,) = (function for function in functions if function.name == name)
        assert function.args.kwarg is None or len(call.args) == 2, f"{path.name}: {call.args[0].id}"


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("weight lacks an axis", "RuntimeError: weight lacks an axis"),
        # as Paddle tells what the layer raised
        (
            'In transformed code:\n\n    File "net.py", line 3, in forward\n\tx = self.head(x)\n'
            '    ValueError: first\n    File "layer.py", line 9, in head\n\n'
            "    ValueError: 128 != 1152\n  [Hint: sizes]\n",
            "ValueError: 128 != 1152 [Hint: sizes]",
        ),
        ('File "net.onnx" is not there', 'RuntimeError: File "net.onnx" is not there'),
    ],
)
def test_of_a_traceback_in_a_message_the_end_is_told(message: str, told: str) -> None:
    with pytest.raises(GraphError) as caught, converting("Net", "Paddle"):
        raise RuntimeError(message)
    assert str(caught.value) == f"Net: Paddle cannot export it ({told})"
