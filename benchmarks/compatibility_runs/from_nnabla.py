"""nnabla by its own converter, from a file of its format."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nnabla as nn
import nnabla.functions as F
import nnabla.parametric_functions as PF
import numpy as np
from nnabla.utils.save import save

from compatibility_runs.built import CLASSES, IMAGE, WIDTH, Built, Exporter
from compatibility_runs.cells import Cell
from compatibility_runs.exporting import measure_exporter
from compatibility_runs.rows import Row

__all__ = ["measure"]


def _build(network: str) -> Built:
    nn.clear_parameters()
    np.random.seed(0)
    x = nn.Variable(IMAGE.shape)
    y = PF.convolution(x, 8, (3, 3), pad=(1, 1), with_bias=False, name="conv1")
    y = F.relu(PF.batch_normalization(y, batch_stat=False, name="norm1"))
    y = F.relu(PF.convolution(y, WIDTH, (3, 3), pad=(1, 1), stride=(2, 2), name="conv2"))
    y = PF.affine(F.global_average_pooling(y), CLASSES, name="head")

    def call() -> np.ndarray:
        x.d = IMAGE
        y.forward()
        return y.d.copy()

    parameters = {name: value.d.copy() for name, value in nn.get_parameters().items()}
    # nnabla stores affine weights as inputs × outputs.
    matrices = {
        name: value.T if "affine" in name else value
        for name, value in parameters.items()
        if value.ndim > 1 and "bn" not in name
    }
    return Built((x, y), [IMAGE], call, sum(value.size for value in parameters.values()), matrices)


def _export(built: Built, path: Path) -> None:
    x, y = built.model
    source = path.with_suffix(".nnp")
    save(str(source), {
        "networks": [{"name": "net", "batch_size": len(IMAGE), "outputs": {"y": y}, "names": {"x": x}}],
        "executors": [{"name": "runtime", "network": "net", "data": ["x"], "output": ["y"]}],
    })  # fmt: skip
    program = Path(sys.executable).parent / "nnabla_cli"
    done = subprocess.run(
        [str(program), "convert", "-b", str(len(IMAGE)), str(source), str(path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if not path.exists():
        raise RuntimeError((done.stdout + done.stderr).strip().splitlines()[-1])


def measure(row: Row, network: str, folder: Path) -> dict[str, Cell]:
    """The cells of nnabla."""
    return measure_exporter({"nnabla": Exporter(_build, _export)}, row, network, folder)
