"""What a user waits for: whole processes of the command, their time and their peak memory.

    python benchmarks/whole_process.py [--repeats 5] [--large-gib 4] [--out whole_process.json]

Each row runs its processes in turn, ours and the one that it is compared with, and tells medians. A comparison does in
a process of its own what has to be done anyway: import onnx, read and write the same files, or copy the data to disk.
The command runs without torch, which exports the files of `--from` in processes of their own; let nothing else run
beside it.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_ghn import __version__

EXAMPLES = Path(__file__).parents[1] / "data" / "examples"
_COPY = "import onnx, sys; onnx.save(onnx.load(sys.argv[1]), sys.argv[2])"
_COPY_TWO = f"{_COPY}; onnx.load(sys.argv[3])"
# Installed, the modules are compiled once.
_ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
_SIDE = 8192  # of the matrices of the large model
_PIECE = 64 << 20


@dataclass(frozen=True)
class Row:
    """Medians; `other` is what it is compared with."""

    what: str
    seconds: float
    peak_mib: float
    other: str = ""
    other_seconds: float | None = None

    @property
    def ratio(self) -> float | None:
        return None if self.other_seconds is None else self.seconds / self.other_seconds


def process(arguments: Sequence[str], expected: int = 0) -> tuple[float, float]:
    """Seconds and peak MiB of a process."""
    start = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(arguments, env=_ENVIRONMENT, **quiet)
    _, status, usage = os.wait4(child.pid, 0)
    seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != expected:
        raise RuntimeError(f"{' '.join(arguments)} ended with {child.returncode}")
    return seconds, usage.ru_maxrss / 1024


def compared(
    what: str,
    arguments: Sequence[str],
    repeats: int,
    *,
    other: str = "",
    run_other: Callable[[], float] | None = None,
    expected: int = 0,
) -> Row:
    """A command of ours, in turn with what it is compared with; the first round warms up and does not count."""
    ours, theirs = [], []
    command = [sys.executable, "-m", "onnx_ghn", *arguments]
    for _ in range(repeats + 1):
        ours.append(process(command, expected))
        if run_other is not None:
            theirs.append(run_other())
    return Row(
        what,
        statistics.median(seconds for seconds, _ in ours[1:]),
        max(peak for _, peak in ours),
        other,
        statistics.median(theirs[1:]) if theirs else None,
    )


def rows(folder: Path, repeats: int, large_gib: float) -> list[Row]:
    """All rows; `folder` is for what they write."""
    out = str(folder / "out.onnx")
    small = str(EXAMPLES / "resnet18_cifar10.onnx")
    to_out = ["-o", out, "--force"]
    found = [
        compared("predict resnet18_cifar10.onnx", ["predict", small, *to_out], repeats),
        compared("the same, --calibrate none", ["predict", small, *to_out, "--calibrate", "none"], repeats),
        compared("ghns", ["ghns"], repeats),
        compared("predict of a misspelt path", ["predict", "nowhere.onnx", *to_out], repeats, expected=1),
    ]
    weighty = str(folder / "resnet50.onnx")
    example = str(EXAMPLES / "resnet50_torchscript.onnx")
    process(
        [sys.executable, "-m", "onnx_ghn", "predict", example, "-o", weighty, "--policy", "none", "--calibrate", "none"]
    )
    copy = [sys.executable, "-c", _COPY, weighty, str(folder / "copy.onnx")]
    arguments = ["predict", weighty, *to_out, "--policy", "all", "--calibrate", "none"]
    megabytes = os.path.getsize(weighty) / 1e6
    found.append(
        compared(
            f"predict ResNet-50 with weights ({megabytes:.0f} MB), --policy all --calibrate none",
            arguments,
            repeats,
            other="import onnx, load and save the file",
            run_other=lambda: process(copy)[0],
        )
    )
    found += inherited(folder, repeats)
    for n_nodes in (5_000, 12_000):
        chain = folder / f"{n_nodes}.onnx"
        onnx.save(residual_chain(n_nodes), chain)
        arguments = ["predict", str(chain), *to_out, "--policy", "all", "--calibrate", "none"]
        found.append(compared(f"predict a network of {n_nodes:,} operators", arguments, 1))
    if large_gib:
        found.append(large(folder, large_gib))
    return found


def inherited(folder: Path, repeats: int) -> list[Row]:
    """A ResNet-34 with the weights of a ResNet-18, with and without the runs that compare outputs."""
    files = {name: folder / f"{name}.onnx" for name in ("resnet34", "resnet18")}
    for name, path in files.items():
        process([sys.executable, "-m", "onnx_ghn", "export", f"torchvision:{name}", "-o", str(path)])
        move_norms(path)
    copy = [sys.executable, "-c", _COPY_TWO, str(files["resnet34"]), str(folder / "copy.onnx"), str(files["resnet18"])]
    arguments = ["predict", str(files["resnet34"]), "--from", str(files["resnet18"])]
    arguments += ["-o", str(folder / "out.onnx"), "--force"]
    rows = (
        ("predict ResNet-34 --from ResNet-18 --calibrate none", [*arguments, "--calibrate", "none"]),
        ("the same, outputs of both compared at 224 pixels", arguments),
    )
    return [
        compared(
            what,
            command,
            repeats,
            other="import onnx, load both files, save one",
            run_other=lambda: process(copy)[0],
        )
        for what, command in rows
    ]


def move_norms(path: Path) -> None:
    """Give the scales of norms other values: a file in which they are all one was not trained, and is no donor."""
    model, rng = onnx.load(path), np.random.default_rng(0)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 1 and (values == 1).all() and tensor.name.endswith("weight"):
            scales = rng.uniform(0.5, 1.5, values.shape).astype(values.dtype)
            tensor.CopyFrom(numpy_helper.from_array(scales, tensor.name))
    onnx.save(model, path)


def residual_chain(n_operators: int) -> onnx.ModelProto:
    """Convolutions with norms, each added to what it was given: four operators a block."""
    rng = np.random.default_rng(0)
    nodes, tensors, last = [], [], "x"
    for i in range(n_operators // 4):
        shapes = {"w": (16, 16, 3, 3), "s": (16,), "b": (16,), "m": (16,), "v": (16,)}
        for name, shape in shapes.items():
            tensors.append(numpy_helper.from_array(rng.random(shape, np.float32), f"{name}{i}"))
        nodes += [
            helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], pads=[1, 1, 1, 1]),
            helper.make_node("BatchNormalization", [f"c{i}", *(f"{name}{i}" for name in "sbmv")], [f"n{i}"]),
            helper.make_node("Relu", [f"n{i}"], [f"r{i}"]),
            helper.make_node("Add", [last, f"r{i}"], [f"y{i}"]),
        ]
        last = f"y{i}"
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 16, 8, 8]) for name in ("x", last)]
    graph = helper.make_graph(nodes, "chain", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def large(folder: Path, gib: float) -> Row:
    """A chain of matrices in external data, against copying these data and waiting until the disk has them."""
    data, tensor_bytes = folder / "large.onnx.data", _SIDE * _SIDE * 4
    count = max(1, round(gib * 2**30 / tensor_bytes))
    piece = np.random.default_rng(0).standard_normal(_PIECE // 4, np.float32)
    with open(data, "wb") as file:  # no holes, which a copy would spare, and no two matrices alike
        for i in range(count * tensor_bytes // _PIECE):
            file.write((piece + np.float32(i)).tobytes())
    weights, nodes = [], []
    for i in range(count):
        tensor = TensorProto(name=f"w{i}", dims=[_SIDE, _SIDE], data_type=TensorProto.FLOAT)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", data.name), ("offset", i * tensor_bytes), ("length", tensor_bytes)):
            tensor.external_data.add(key=key, value=str(value))
        weights.append(tensor)
        nodes.append(helper.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", _SIDE]) for n in ("x0", f"x{count}")]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    model = folder / "large.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), model)

    def copied() -> float:
        start = time.perf_counter()
        with open(data, "rb") as source, open(folder / "copy.data", "wb") as target:
            shutil.copyfileobj(source, target, _PIECE)
            os.fsync(target.fileno())
        return time.perf_counter() - start

    arguments = ["predict", str(model), "-o", str(folder / "filled.onnx"), "--force", "--policy", "all"]
    arguments += ["--calibrate", "none", "--no-correct-scales"]
    return compared(
        f"predict {count * tensor_bytes / 2**30:.0f} GiB of external data, --no-correct-scales",
        arguments,
        1,
        other="copy the data, and wait for the disk",
        run_other=copied,
    )


def table(found: Sequence[Row]) -> str:
    """In Markdown."""
    lines = ["| process | seconds | peak memory, MiB | compared with | ratio |", "|---|---:|---:|---|---:|"]
    for row in found:
        other = f"{row.other}: {row.other_seconds:.2f} s" if row.other_seconds is not None else ""
        ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
        lines.append(f"| {row.what} | {row.seconds:.2f} | {row.peak_mib:,.0f} | {other} | {ratio} |")
    return "\n".join(lines)


@click.command()
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1))
@click.option("--large-gib", default=4.0, show_default=True, help="Size of the large model; 0 leaves it out.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows as JSON, too.")
def main(repeats: int, large_gib: float, out: Path | None) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as name:
        found = rows(Path(name), repeats, large_gib)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"onnx-ghn {__version__}, onnx {onnx.__version__}, {machine}\n")
    print(table(found))
    if out is not None:
        out.write_text(json.dumps({"machine": machine, "rows": [asdict(row) for row in found]}, indent=2) + "\n")


if __name__ == "__main__":
    main()
