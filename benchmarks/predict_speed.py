"""Speed of the main job: graph + GHN, whole predict against onnx.load + onnx.save, start-up, peak memory.

    python benchmarks/predict_speed.py [--large-gib 4] [--repeats 7]

Networks come from torchvision (untrained), exported here; the GHN is GHN-2 (hid 32, ImageNet). Two threads.
Medians of repeated runs in one process, after one warm-up run; the cold figures are the first runs.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import platform
import statistics
import subprocess
import sys
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


def graph_and_ghn(folder: Path, repeats: int) -> None:
    """From an ir.Model in memory to all predicted tensors in memory."""
    from onnx_ghn import build_graph, new_ghn
    from onnx_ghn.onnx_io import read_model
    from onnx_ghn.passes import UntieMergedTensors

    ghn = new_ghn("ghn2", seed=0)
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
        print(f"| {name} | {len(build_graph(model))} | {first:.3f} | {median:.3f} |")


def whole_predict(folder: Path, repeats: int) -> None:
    """File to file, without calibration, against reading and writing the same file with onnx."""
    import onnx

    from onnx_ghn import new_ghn, predict

    ghn = new_ghn("ghn2", seed=0)
    target = folder / "out.onnx"
    print("\n| whole predict | file, MB | onnx.load + save, s | predict, s | ratio |\n|---|---|---|---|---|")
    for name in NETS:
        source = folder / f"{name}.onnx"
        _, ours = timed(
            lambda s=source: predict(s, target, ghn=ghn, calibrate="none", correct_scales=False, force=True), repeats
        )
        _, theirs = timed(lambda s=source: onnx.save(onnx.load(s), target), repeats)
        megabytes = source.stat().st_size / 1e6
        print(f"| {name} | {megabytes:.0f} | {theirs:.3f} | {ours:.3f} | {ours / theirs:.2f} |")


def start_up(repeats: int) -> None:
    """`onnx-ghn --help` as a process."""
    command = [sys.executable, "-m", "onnx_ghn", "--help"]
    first, median = timed(lambda: subprocess.run(command, check=True, capture_output=True), repeats)
    print(f"\n`onnx-ghn --help`: first {first:.2f} s, median {median:.2f} s")


_LARGE = """
import sys
import onnx_ghn
ghn = onnx_ghn.new_ghn("ghn2", seed=0)
onnx_ghn.predict(sys.argv[1], sys.argv[2], ghn=ghn, calibrate="none", correct_scales=False, force=True)
# Not ru_maxrss: a child process inherits its parent's there.
status = open("/proc/self/status").read()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024)
"""


def large_model(folder: Path, gib: float) -> None:
    """A chain of 8192 × 8192 matrices in external data: peak memory of a whole predict process."""
    import onnx
    from onnx import TensorProto, helper

    side, name = 8192, "large.onnx"
    tensor_bytes = side * side * 4
    count = max(1, round(gib * 2**30 / tensor_bytes))
    with open(folder / f"{name}.data", "wb") as data:  # a file with holes: the weights' values don't matter
        data.truncate(count * tensor_bytes)
    weights, nodes = [], []
    for i in range(count):
        tensor = TensorProto(name=f"w{i}", dims=[side, side], data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (
            ("location", f"{name}.data"),
            ("offset", i * tensor_bytes),
            ("length", tensor_bytes),
        ):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", side]) for n in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / name)
    start = time.perf_counter()
    command = [sys.executable, "-c", _LARGE, str(folder / name), str(folder / "large_out.onnx")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    seconds = time.perf_counter() - start
    limit = 0.8 * 2**30 + 2 * tensor_bytes
    print(
        f"\n{count * tensor_bytes / 2**30:.1f} GiB in external data: {seconds:.1f} s, peak {peak / 2**30:.2f} GiB "
        f"(0.8 GiB + twice the largest tensor: {limit / 2**30:.2f} GiB)"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--large-gib", type=float, default=4.0, help="0 leaves that part out")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(2)
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for net in NETS:
            export(net, folder)
        graph_and_ghn(folder, options.repeats)
        whole_predict(folder, options.repeats)
        start_up(options.repeats)
        if options.large_gib:
            large_model(folder, options.large_gib)


if __name__ == "__main__":
    main()
