"""onnx-ir without sympy: the same results, and sympy only when a symbolic size is computed with."""

from __future__ import annotations

import subprocess
import sys

_EXPRESSIONS = ["max(N, 2) + 3 * M", "floor(N / 2)", "mod(N, 3)", "min(N, M)", "sqrt(N)", "N"]
_COMPUTE = f"""
import onnx_ir as ir
found = []
for text in {_EXPRESSIONS!r}:
    size = ir.SymbolicDim(text)
    found += [str(each) for each in (size + 1, size * 2, size // 3, size.simplify(), size.evaluate({{"N": 9, "M": 4}}))]
print(found)
"""
_LIGHT = """
import sys
from onnx_ghn.cli import light_imports
light_imports.import_onnx_ir()
print('sympy' in sys.modules)
"""


def _run(code: str) -> list[str]:
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return told.stdout.splitlines()


def test_sizes_are_computed_as_with_sympy() -> None:
    is_imported, found = _run(_LIGHT + _COMPUTE)
    assert is_imported == "False"
    assert [found] == _run(_COMPUTE)


def test_sympy_is_itself_for_whoever_imports_it_afterwards() -> None:
    code = (
        "from onnx_ghn.cli.light_imports import import_onnx_ir\n"
        "import_onnx_ir()\n"
        "import sympy\n"
        "from sympy import Max, Symbol\n"
        "import onnx_ir\n"
        "print(type(sympy).__name__, Max(Symbol('n'), 2), onnx_ir.SymbolicDim(Symbol('n') + 1))"
    )
    assert _run(code) == ["module Max(2, n) n + 1"]


def test_an_onnx_ir_that_asks_for_more_is_imported_with_sympy() -> None:
    """A later version may name what cannot stand in: then both are imported as they are."""
    narrow = "from onnx_ghn.cli import light_imports\nlight_imports._FUNCTIONS = frozenset({'Max'})\n"
    is_imported, found = _run(narrow + _LIGHT + _COMPUTE)
    assert is_imported == "True"
    assert [found] == _run(_COMPUTE)
