"""The size of a journey's environment."""

from __future__ import annotations

from pathlib import Path

from journeys import megabytes


def kept(path: Path, n_bytes: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes([1]) * n_bytes)


def test_pip_alone_is_left_out(tmp_path: Path) -> None:
    packages = tmp_path / "lib" / "python3.12" / "site-packages"
    for name in ("pip/_vendor/rich/pip.py", "pip-26.3.dist-info/RECORD", "../../../bin/pip", "../../../bin/pip3.12"):
        kept(packages / name, 5 << 20)
    kept(packages / "setuptools/build.py", 1 << 20)
    kept(packages / "torch/distributed/pipelining/stage.py", 2 << 20)
    kept(packages / "pipeline.py", 4 << 20)
    assert megabytes(tmp_path) == 7
