"""The package costs nothing until it is used, and never torch."""

from __future__ import annotations

import subprocess
import sys


def _loaded(code: str) -> set[str]:
    out = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys\nprint(*sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(out.stdout.split())


def test_import_is_light():
    loaded = _loaded("import onnx_ghn.onnx_io, onnx_ghn.passes")
    assert not loaded & {"onnx", "onnx_ir", "numpy", "torch"}


def test_use_needs_no_torch():
    loaded = _loaded("from onnx_ghn.onnx_io import *")
    assert "onnx_ir" in loaded
    assert "torch" not in loaded


def test_all_names_resolve():
    import onnx_ghn.onnx_io as package

    assert all(callable(getattr(package, name)) for name in package.__all__)
