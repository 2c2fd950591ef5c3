"""What commands import: no framework where they do without one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "data" / "examples" / "lstm_text.onnx"


@pytest.mark.parametrize(
    "arguments",
    [["predict", str(EXAMPLE), "-o", "{out}", "--calibrate", "none"], ["inspect", str(EXAMPLE)], ["ghns"]],
    ids=lambda arguments: arguments[0],
)
def test_commands_load_no_framework(arguments: list[str], tmp_path: Path) -> None:
    """Neither torch nor scipy nor onnxruntime: a prediction without a run needs none of them."""
    heavy = ["torch", "scipy", "sympy", "onnxruntime", "networkx", "matplotlib", "h5py"]
    code = (
        "import sys\n"
        "from onnx_ghn.cli.group import main\n"
        "try:\n    main(sys.argv[1:])\n"
        f"finally:\n    print([name for name in {heavy} if name in sys.modules], file=sys.stderr)"
    )
    filled = [argument.format(out=tmp_path / "out.onnx") for argument in arguments]
    told = subprocess.run([sys.executable, "-c", code, *filled], capture_output=True, text=True, check=True)
    assert told.stderr.splitlines()[-1] == "[]"


@pytest.mark.parametrize("arguments", [["ghns"], ["--help"], ["predict", "nowhere.onnx", "-o", "out.onnx"]])
def test_what_reads_no_model_imports_none_of_its_packages(arguments: list[str]) -> None:
    """Lists, help and a misspelt path need no arrays, and of the other commands' modules none but for help."""
    code = (
        "import sys\n"
        "from onnx_ghn.cli.group import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "finally:\n"
        "    found = [name for name in ('numpy', 'onnx', 'onnx_ir') if name in sys.modules]\n"
        "    print(found, sum(name.startswith('onnx_ghn.cli.train') for name in sys.modules), file=sys.stderr)"
    )
    told = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
    assert told.stderr.splitlines()[-1] == ("[] 3" if arguments == ["--help"] else "[] 0")
