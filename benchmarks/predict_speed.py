"""Speed of the main job in one process: graph + GHN, whole predict against onnx.load + onnx.save.

    python benchmarks/predict_speed.py [--repeats 7] [--out predict_speed.json]

Start-up, memory and large models are those of benchmarks/whole_process.py.

Networks come from torchvision (untrained), exported here; the GHN is GHN-2 (hid 32, ImageNet). Two threads.
Medians of repeated runs in one process, after one warm-up run; the cold figures are the first runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import platform
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

NETS = ("resnet50", "densenet121", "vit_b_32")


def export(name: str, folder: Path) -> Path:
    """An untrained torchvision network as torch's first exporter writes it, batch norms kept."""
    import torch
    import torchvision

    path = folder / f"{name}.onnx"
    net = getattr(torchvision.models, name)().eval()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.randn(1, 3, 224, 224),),
            path,
            dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE,
            do_constant_folding=False,
        )
    return path


def timed(function: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """(first, median of the others) seconds."""
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return seconds[0], statistics.median(seconds[1:])


def graph_and_ghn(folder: Path, repeats: int) -> dict[str, float]:
    """From an ir.Model in memory to all predicted tensors in memory."""
    from onnx_ghn import build_graph, new_ghn
    from onnx_ghn.onnx_io import read_model
    from onnx_ghn.passes import UntieMergedTensors

    ghn = new_ghn("ghn2", seed=0)
    found = {}
    print("\n| graph + GHN-2 | nodes | first, s | median, s |\n|---|---|---|---|")
    for name in NETS:
        model = read_model(folder / f"{name}.onnx")
        UntieMergedTensors()(model)

        def run(model: Any = model) -> int:
            graph = build_graph(model)
            return sum(
                graph.parameters[i].layout.from_canonical(block.array()).size for i, block in ghn.blocks(graph).items()
            )

        first, median = timed(run, repeats)
        found[name] = median
        print(f"| {name} | {len(build_graph(model))} | {first:.3f} | {median:.3f} |")
    return found


def whole_predict(folder: Path, repeats: int) -> dict[str, tuple[float, float, float]]:
    """File to file, without calibration, against reading and writing the same file with onnx."""
    import onnx

    from onnx_ghn import new_ghn, predict

    ghn = new_ghn("ghn2", seed=0)
    target = folder / "out.onnx"
    found = {}
    print("\n| whole predict | file, MB | onnx.load + save, s | predict, s | ratio |\n|---|---|---|---|---|")
    for name in NETS:
        source = folder / f"{name}.onnx"
        _, ours = timed(
            lambda s=source: predict(s, target, ghn=ghn, calibrate="none", correct_scales=False, force=True), repeats
        )
        _, theirs = timed(lambda s=source: onnx.save(onnx.load(s), target), repeats)
        megabytes = source.stat().st_size / 1e6
        found[name] = megabytes, ours, theirs
        print(f"| {name} | {megabytes:.0f} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")
    return found


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path, help="write the medians as JSON, too")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(2)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in NETS:
            export(net, folder)
        alone = graph_and_ghn(folder, options.repeats)
        whole = whole_predict(folder, options.repeats)
    rows = [
        {"network": name, "megabytes": size, "ghn_s": alone[name], "predict_s": ours, "copy_s": theirs}
        for name, (size, ours, theirs) in whole.items()
    ]
    if options.out is not None:
        options.out.write_text(json.dumps({"rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
