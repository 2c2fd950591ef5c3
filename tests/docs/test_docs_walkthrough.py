"""The walkthrough: page and notebook are one, and all of it runs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE, NOTEBOOK = ROOT / "docs/walkthrough.md", ROOT / "docs/walkthrough.ipynb"


def test_page_and_notebook_are_one() -> None:
    """After a change of the page: python docs/run_walkthrough.py"""
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    page, notebook = jupytext.read(PAGE), jupytext.read(NOTEBOOK)
    assert len(page.cells) >= 15
    assert [(cell.cell_type, cell.source) for cell in page.cells] == [
        (cell.cell_type, cell.source) for cell in notebook.cells
    ]
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    assert "weights by ghn-cifar10" in printed
    assert "/tmp" not in printed  # nothing of the machine that it ran on
    drawn = {kind for cell in notebook.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
    assert {"image/svg+xml", "image/png"} <= drawn
    assert all(cell.get("execution_count") is None for cell in notebook.cells)


def test_its_code_compiles() -> None:
    """What it does, the blocks of the other pages do by default; test_docs_blocks.py holds its commands to exist."""
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    code = [cell.source for cell in jupytext.read(PAGE).cells if cell.cell_type == "code"]
    plain = [source for source in code if not source.startswith(("%%", "!"))]
    assert len(plain) >= 5
    for source in plain:
        compile(source, str(PAGE), "exec")


@pytest.mark.slow
def test_all_of_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jupytext = pytest.importorskip("jupytext", reason="jupytext is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    # A kernel of this interpreter, whichever kernels the machine has; neither its history nor its settings.
    for name in ("JUPYTER_DATA_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / "jupyter"))
    work = tmp_path / "work"
    work.mkdir()
    notebook = jupytext.read(NOTEBOOK)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(work)}}
    )
    client.execute()
    made = {path.name for path in work.iterdir()}
    assert {"model.onnx", "init.onnx", "model.svg", "report.html", "shapes"} <= made
    printed = "".join(
        output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    assert "weights by ghn-cifar10" in printed
    assert "62 predicted (100.00%)" in printed
    assert "LoadReport(" in printed
    assert printed.count("epoch 4: loss ") == 2
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/svg+xml" in o.get("data", {})]
    assert len(pictures) == 1
    plots = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(plots) == 1
