"""Seconds of a GHN's training step and of its parts, on the full train distribution of DeepNets-1M.

    python benchmarks/train_step.py                        # one process on all cores
    python benchmarks/train_step.py --processes 2          # two processes of one thread, as torchrun starts them
    python benchmarks/train_step.py --device cuda --processes 8    # that share a GPU
    python benchmarks/train_step.py --device cuda --cudnn  # with cuDNN's plans, which are made anew for each network
    python benchmarks/train_step.py --modules              # beside it, the nets alone as float32 torch modules
    python benchmarks/train_step.py --convolutions         # why depthwise convolutions have their own backward pass

By default what the published code was measured with: GHN-2 (hid 32), 8 nets × 64 images of 32 × 32, C and classifier
widths as training draws them. Random images: their content changes no time. `--modules` runs what is the larger part of
a published step, forward and backward in the published form, on the same draws.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import click
import torch

from onnx_ghn.deepnets1m.network import Network
from onnx_ghn.ghn import GHNConfig, new_ghn
from onnx_ghn.kernels.depthwise import depthwise_conv2d
from onnx_ghn.training.ghn.architectures import ArchitectureStream
from onnx_ghn.training.ghn.settings import NetLimits
from onnx_ghn.training.ghn.step import ghn_step
from onnx_ghn.training.group import Group, join_group
from onnx_ghn.training.optimizers import Optimizers
from onnx_ghn.training.settings import OptimizerConfig


@click.command()
@click.option("--kind", type=click.Choice(["ghn2", "ghn3"]), default="ghn2", show_default=True)
@click.option("--nets", default=8, show_default=True)
@click.option("--images", default=64, show_default=True)
@click.option("--image-size", default=32, show_default=True)
@click.option("--steps", default=12, show_default=True, help="Counted, after one to warm up.")
@click.option("--precision", type=click.Choice(["bf16", "f32"]), default="bf16", show_default=True)
@click.option(
    "--processes", default=1, show_default=True, help="Number of processes that share the networks of a step."
)
@click.option("--device", default="cpu", show_default=True)
@click.option("--cudnn", is_flag=True, help="Let cuDNN plan each convolution on a GPU, as published.")
@click.option("--modules", is_flag=True, help="The nets alone as float32 torch modules too, without any GHN.")
@click.option("--convolutions", is_flag=True, help="Depthwise convolutions alone.")
def main(**options: Any) -> None:
    """Print a table."""
    if options["convolutions"]:
        _convolutions()
        return
    if options["processes"] > 1 and "RANK" not in os.environ:
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(options["processes"])]
        sys.exit(subprocess.run([*command, *sys.argv], env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode)
    group = join_group()
    rows = _steps(group, options)
    if group.rank:
        return
    parts = [key for key in rows[0] if key not in ("nodes", "step")]
    print(
        f"{options['kind']}, {options['nets']} nets × {options['images']} images of {options['image_size']} px, ",
        end="",
    )
    print(f"{options['precision']}, {options['processes']} process(es) on {options['device']}, ", end="")
    print(f"{torch.get_num_threads()} thread(s) each")
    print("seconds a step (of process 0)".ljust(32) + "median    mean     min     max")
    for key in ("step", *parts):
        values = [row[key] for row in rows]
        figures = (statistics.median(values), statistics.fmean(values), min(values), max(values))
        print(("  " * (key != "step") + key).ljust(30) + "".join(f"{figure:8.3f}" for figure in figures))
    print("every step: " + json.dumps([round(row["step"], 2) for row in rows]))


def _steps(group: Group, options: dict[str, Any]) -> list[dict[str, float]]:
    config = GHNConfig.preset(options["kind"], num_classes=10, max_shape=(64, 64, 11, 11), hid=32)
    ghn = new_ghn(config, seed=0).to(options["device"]).train()
    size = options["image_size"]
    stream = ArchitectureStream("train", 10, 1111, NetLimits(any_size=size != 32))
    optimizers = Optimizers(ghn, OptimizerConfig(opt="adam", lr=1e-3, wd=1e-5))
    dtype = torch.bfloat16 if options["precision"] == "bf16" else torch.float32
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(options["images"], 3, size, size, generator=generator)
    images = images.to(ghn.device, dtype, memory_format=torch.channels_last)
    targets = torch.randint(0, 10, (options["images"],), generator=generator).to(ghn.device)
    plain = torch.randn(images.shape, generator=generator).to(ghn.device)
    rows = []
    for step in range(options["steps"] + 1):
        start = time.perf_counter()
        nets = stream.meta_batch(step, options["nets"])
        drawn = time.perf_counter()
        optimizers.zero_grad()
        mine = group.share(nets, [len(net.graph) for net in nets])
        result = ghn_step(ghn, mine, [(images, targets)] * len(mine), n_nets=len(nets), plans=options["cudnn"])
        before = time.perf_counter()
        parameters = list(optimizers.parameters.values())
        group.reduce(parameters, [result.loss])
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizers.step()
        _wait(ghn.device)
        end = time.perf_counter()
        parts = {"draw architectures": drawn - start, **result.parts_s, "average and update": end - before}
        row = {"step": end - start, **parts}
        if options["modules"]:
            row["(nets as float32 modules)"] = _modules(mine, plain, targets)
        rows.append(row)
    return rows[1:]


def _modules(nets: list[Any], images: Any, targets: Any) -> float:
    """Seconds of the nets' forward and backward pass as modules."""
    networks = [Network(net.architecture).to(images.device).train() for net in nets]
    start = time.perf_counter()
    loss = sum(torch.nn.functional.cross_entropy(network(images), targets) for network in networks)
    loss.backward()
    _wait(images.device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """For what a GPU was told to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def _convolutions() -> None:
    torch.set_num_threads(1)
    print("ms, forward and backward, one thread, bfloat16, 64 images, channels last".ljust(76) + "torch    ours")
    for channels, size in ((32, 32), (64, 16), (128, 8)):
        for kernel, dilation, stride in ((3, 1, 1), (5, 1, 1), (3, 2, 1), (5, 2, 1), (3, 1, 2), (5, 1, 2), (5, 2, 2)):
            padding = dilation * (kernel - 1) // 2
            x = torch.randn(64, channels, size, size).bfloat16().to(memory_format=torch.channels_last).requires_grad_()
            weight = torch.randn(channels, 1, kernel, kernel).bfloat16().requires_grad_()

            def theirs(x: Any = x, w: Any = weight, s: int = stride, p: int = padding, d: int = dilation) -> Any:
                return torch.nn.functional.conv2d(x, w, None, s, p, d, x.shape[1])

            def ours(x: Any = x, w: Any = weight, s: int = stride, p: int = padding, d: int = dilation) -> Any:
                return depthwise_conv2d(x, w, s, p, d)

            what = f"{channels} channels, {size} × {size}: {kernel} × {kernel}, dilation {dilation}, stride {stride}"
            print(what.ljust(72) + "".join(f"{_milliseconds(f, x, weight):8.1f}" for f in (theirs, ours)))


def _milliseconds(function: Any, x: Any, weight: Any) -> float:
    times = []
    for _ in range(8):
        start = time.perf_counter()
        y = function()
        torch.autograd.grad(y, (x, weight), torch.ones_like(y))
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[1:])


if __name__ == "__main__":
    main()
