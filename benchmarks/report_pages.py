"""How fast report pages open in a headless Chromium, and that they load nothing.

    python benchmarks/report_pages.py --folder pages             # keeps models' pages and their screenshots

ResNet-50 and ViT-B/16 of torchvision, BERT-base of transformers (random weights: nothing is downloaded), and a residual
network of 5,000 nodes. `opens` is the median of the time from the navigation to the second frame after the page
has drawn itself, each time in a new context.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich import box
from rich.console import Console
from rich.table import Table

from onnx_ghn.exporters.registry import resolve
from onnx_ghn.report.writing import report_data, write_page

_ZOO = {"ResNet-50": "torchvision:resnet50", "ViT-B/16": "torchvision:vit_b_16", "BERT-base": "hf:bert"}
_BLOCKS = 999
_LARGE = "residual network"
_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
_ARGUMENTS += ["--disable-component-update", "--disable-sync"]
_TWO_FRAMES = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"
_VIEWS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light", "viewport": {"width": 1280, "height": 860}},
    "dark": {"color_scheme": "dark", "viewport": {"width": 1280, "height": 860}},
    "phone": {"color_scheme": "light", "viewport": {"width": 390, "height": 844}},
}


@click.command()
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Keep pages and screenshots here.")
@click.option("--times", default=5, show_default=True, help="Visits of each page.")
def main(folder: Path | None, times: int) -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        home = folder or Path(temporary)
        home.mkdir(parents=True, exist_ok=True)
        rows = {}
        for name in (*_ZOO, _LARGE):
            page = home / f"{name.replace('/', '-').replace(' ', '-').lower()}.html"
            if not page.exists():  # a process for each: what its exporter imported goes with it
                subprocess.run([sys.executable, __file__, "--make", name, str(page)], check=True)
            rows[name] = _visit(page, times)
            print(name, rows[name], file=sys.stderr, flush=True)
        _print(rows)


def _make(name: str, page: Path) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        model = Path(temporary) / f"{page.stem}.onnx"
        if name in _ZOO:
            target = resolve(_ZOO[name])
            target.exporter.export(target.model, model, target.example_inputs)
        else:
            onnx.save(_residual_network(), model)
        begin = time.perf_counter()
        data = report_data(model, policy="all")
        write_page(data, page)
        page.with_suffix(".seconds").write_text(f"{time.perf_counter() - begin:.2f}")


def _residual_network(width: int = 8) -> onnx.ModelProto:
    """A stem and 999 blocks of Conv, BatchNormalization, Relu, Conv, BatchNormalization, Add: 5,000 graph nodes."""
    rng = np.random.default_rng(0)
    nodes: list[onnx.NodeProto] = []
    tensors: list[onnx.TensorProto] = []

    def tensor(name: str, *shape: int) -> str:
        tensors.append(numpy_helper.from_array(rng.random(shape, np.float32), name))
        return name

    def op(kind: str, *inputs: str, out: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [out], name=out, **attributes))
        return out

    def conv_norm(x: str, name: str, n_in: int) -> str:
        x = op("Conv", x, tensor(f"{name}.conv.weight", width, n_in, 3, 3), out=f"{name}.conv", pads=[1, 1, 1, 1])
        parts = [tensor(f"{name}.bn.{part}", width) for part in ("weight", "bias", "running_mean", "running_var")]
        return op("BatchNormalization", x, *parts, out=f"{name}.bn")

    x = op("Conv", "x", tensor("stem.weight", width, 3, 3, 3), out="stem", pads=[1, 1, 1, 1])
    for i in range(_BLOCKS):
        y = op("Relu", conv_norm(x, f"blocks.{i}.0", width), out=f"blocks.{i}.relu")
        x = op("Add", x, conv_norm(y, f"blocks.{i}.1", width), out=f"blocks.{i}.add")
    x = op("Flatten", op("GlobalAveragePool", x, out="pool"), out="flat")
    op("Gemm", x, tensor("head.weight", 10, width), tensor("head.bias", 10), out="y", transB=1)
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 3, 16, 16]), ("y", [1, 10]))]
    graph = helper.make_graph(nodes, "residual", ends[:1], ends[1:], tensors)
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def _visit(page: Path, times: int) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    executable = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if executable is None:
        raise click.ClickException("no Chromium on this machine")
    opened, requests, messages = [], [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=_ARGUMENTS)
        for place in range(times + len(_VIEWS)):
            view = list(_VIEWS)[max(0, place - times)]
            context = browser.new_context(**_VIEWS[view])
            tab = context.new_page()
            tab.on("request", lambda request: requests.append(request.url))
            tab.on("console", lambda message: messages.append(message.text))
            tab.on("pageerror", lambda error: messages.append(str(error)))
            tab.goto(page.resolve().as_uri())
            tab.wait_for_function("document.documentElement.dataset.ready")
            seconds = tab.evaluate(_TWO_FRAMES) / 1000
            if place < times:
                opened.append(seconds)
            else:
                tab.screenshot(path=page.with_suffix(f".{view}.png"), full_page=True)
            context.close()
        browser.close()
    own = page.resolve().as_uri()
    return {
        "made_s": float(page.with_suffix(".seconds").read_text()),
        "size_bytes": page.stat().st_size,
        "opens_s": statistics.median(opened),
        "slowest_s": max(opened),
        "requests": sum(url != own and not url.startswith("data:") for url in requests),
        "messages": len(messages),
    }


def _print(rows: dict[str, dict[str, Any]]) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("", "page", "made in", "opens in", "slowest", "requests", "console messages"):
        table.add_column(header, justify="left" if not header else "right")
    for name, row in rows.items():
        table.add_row(
            name,
            f"{row['size_bytes'] / 1000:,.0f} kB",
            f"{row['made_s']:.1f} s",
            f"{row['opens_s']:.2f} s",
            f"{row['slowest_s']:.2f} s",
            str(row["requests"]),
            str(row["messages"]),
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        _make(sys.argv[2], Path(sys.argv[3]))
    else:
        main()
