"""Draw the pictures of docs/gallery.md: the same bytes each time.

python data/draw_gallery.py
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onnx_ghn.deepnets1m import DARTS, VIT, Architecture, symbolic_graph
from onnx_ghn.deepnets1m.sampling_stream import draw as draw_architecture
from onnx_ghn.drawing.pictures import draw
from onnx_ghn.graph import ComputationGraph, build_graph

ROOT = Path(__file__).resolve().parents[1]
_EXAMPLES = ("bert_like", "mobilenet_keras", "detector_fpn", "lstm_text")


def pictures() -> Iterator[tuple[str, ComputationGraph]]:
    """File name and graph of each; ResNet-50 is the README's."""
    yield "resnet50.svg", build_graph(ROOT / "data/examples/resnet50_torchscript.onnx")
    for name in _EXAMPLES:
        yield f"{name}.svg", build_graph(ROOT / "data/examples" / f"{name}.onnx")
    yield "vit.svg", symbolic_graph(Architecture(VIT, n_cells=12, C=128, preproc=False, C_mult=1, glob_avg=True))
    yield "darts.svg", symbolic_graph(Architecture(DARTS, n_cells=8, C=36, stem_type=1))
    yield "sampled.svg", draw_architecture("search", np.random.default_rng(1))[1]


def main(folder: Path) -> None:
    """Write them all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in pictures():
        path = draw(graph, folder / name, force=True)
        print(f"{path}: {len(graph)} nodes, {len(graph.edges)} edges, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs/images")
