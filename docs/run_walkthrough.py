"""Run the walkthrough and keep what it prints and draws in the notebook: `python docs/run_walkthrough.py`.

It runs in an empty folder, in a few minutes on two cores. The site shows the notebook with its outputs.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import jupytext
from nbclient import NotebookClient
from nbformat import NotebookNode

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
PAGE = Path(__file__).with_name("walkthrough.md")


def main() -> None:
    """Write walkthrough.ipynb."""
    notebook = jupytext.read(PAGE)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ |= {"PYTHONWARNINGS": "ignore", "COLUMNS": "100"}
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        NotebookClient(notebook, timeout=1800, kernel_name="python3", resources=resources).execute()
    for i, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{i}"  # the same in each run
        cell["metadata"] = {}
        if cell.cell_type == "code":
            cell["execution_count"] = None
            cell["outputs"] = _tidy(cell["outputs"])
    jupytext.write(notebook, PAGE.with_suffix(".ipynb"))


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Without colours, which a kernel asks for, without counts, and what was printed in pieces as one."""
    tidy: list[NotebookNode] = []
    for output in outputs:
        if output["output_type"] == "execute_result":
            output["execution_count"] = None
        if output["output_type"] == "stream":
            output["name"] = "stdout"
            if tidy and tidy[-1]["output_type"] == "stream":
                tidy[-1]["text"] += output["text"]
                continue
        tidy.append(output)
    for output in tidy:
        if output["output_type"] == "stream":
            text = _COLOURS.sub("", output["text"])
            output["text"] = "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())
    return tidy


if __name__ == "__main__":
    main()
