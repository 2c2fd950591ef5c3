"""What a search leaves: tables as CSV, a picture of the front."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from onnx_ghn.deepnets1m.export import export_network
from onnx_ghn.errors import ModelWriteError
from onnx_ghn.json_types import Json
from onnx_ghn.onnx_io import write_file
from onnx_ghn.properties.predictor import PROPERTIES
from onnx_ghn.training.nas.search import Candidates, SearchResult, Space
from onnx_ghn.training.nas.settings import SearchConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["as_csv", "chart", "draw_front", "label_of", "new_folder", "rows", "write_results"]

_LABELS = {"n_params": "parameters", "n_macs": "multiply-accumulates of an image"}


def rows(candidates: Candidates, space: Space) -> list[Json]:
    """One dictionary an architecture, in their order."""
    columns = {name: values.tolist() for name, values in candidates.columns.items()}
    return [
        {"name": space.name(index), **{name: _rounded(name, values[i]) for name, values in columns.items()}}
        for i, index in enumerate(candidates.indices.tolist())
    ]


def _rounded(name: str, value: float) -> float | int:
    return int(value) if name.startswith("n_") else round(value, 4)


def as_csv(found: list[Json]) -> str:
    """With a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(found[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(found)
    return text.getvalue()


@contextlib.contextmanager
def new_folder(folder: str, force: bool) -> Iterator[Path]:
    """A folder for results; one with something in it is refused without `force`.

    Where the work within fails before it has kept anything, the folders that were made for it are removed.

    Raises:
        ModelWriteError: it is refused, or cannot be made.
    """
    path = Path(folder)
    try:
        made = [one for one in (path, *path.parents) if not one.exists()]
        if path.exists() and (not path.is_dir() or any(path.iterdir())) and not force:
            raise ModelWriteError(f"{path}: exists already; add to it with `force` or name another folder")
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelWriteError(f"{path}: cannot be made ({error.strerror}); name another folder") from error
    try:
        yield path
    except BaseException:
        with contextlib.suppress(OSError):  # the first that is not empty stays, and with it those around it
            for one in made:
                one.rmdir()
        raise


def write_results(
    folder: Path, config: SearchConfig, found: SearchResult, *, picture: bool, told: Callable[[int], None]
) -> None:
    """Write ranking.csv and front.csv, front.svg where a picture is wanted, and the best as ONNX files.

    Args:
        told: told how many more of the best are exported.

    Raises:
        ModelWriteError: a file cannot be written.
    """
    for name, chosen in (("ranking.csv", found.good), ("front.csv", found.edge)):
        write_file(folder / name, as_csv(rows(chosen, found.space)).encode(), force=True, what="a table")
    if picture:
        title = f"{len(found.every):,} architectures by predicted properties"
        path = folder / "front.svg"
        draw_front(found.good, found.best, found.edge, config.by, config.against, path, title)
    for index in found.best.indices.tolist():
        export_network(found.space.architecture(index), folder / f"{found.space.name(index)}.onnx", force=True)
        told(1)


@contextlib.contextmanager
def chart(path: Path) -> Iterator[Axes]:
    """Axes to draw on, over a cost in a logarithmic scale; then the picture is written, SVG or PNG by the name.

    Raises:
        ModelWriteError: it cannot be written.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "onnx-ghn", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(7.2, 4.4), dpi=160, layout="constrained")
        axes = figure.subplots()
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.grid(alpha=0.25, lw=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        yield axes
        metadata = {"Date": None} if path.suffix == ".svg" else None
        picture = io.BytesIO()
        figure.savefig(picture, format=path.suffix.removeprefix("."), metadata=metadata)
    write_file(path, picture.getvalue(), force=True, what="a picture")


def draw_front(
    everything: Candidates, chosen: Candidates, edge: Candidates, by: str, cost: str, path: Path, title: str
) -> None:
    """A scatter of all, the best (`chosen`) and the front (`edge`) marked; SVG or PNG by the name."""
    from matplotlib.ticker import EngFormatter

    with chart(path) as axes:
        axes.scatter(
            everything.columns[cost], everything.columns[by], s=5, color="#9aa5b1", alpha=0.35, linewidths=0,
            rasterized=True, label=f"{len(everything):,} within the limits",
        )  # fmt: skip
        axes.plot(
            edge.columns[cost], edge.columns[by], color="#d1495b", marker="o", ms=4, lw=1.4,
            drawstyle="steps-post", label=f"Pareto front ({len(edge)})",
        )  # fmt: skip
        axes.scatter(
            chosen.columns[cost], chosen.columns[by], s=46, facecolors="none", edgecolors="#1d3557", linewidths=1.3,
            zorder=3, label=f"the best {len(chosen)}",
        )  # fmt: skip
        if cost != "latency_ms":
            axes.xaxis.set_major_formatter(EngFormatter())
        axes.set_xlabel(label_of(cost))
        axes.set_ylabel(label_of(by))
        axes.set_title(title, loc="left", fontsize=11)
        legend = axes.legend(loc="lower right", framealpha=0.95, edgecolor="none")
        if (dots := legend.legend_handles[0]) is not None:
            dots.set(alpha=1.0, sizes=[18])


def label_of(name: str) -> str:
    """Of an axis."""
    for known in PROPERTIES:
        if known.name == name:
            plain = name.removesuffix("_ms").removesuffix("_steps").replace("_", " ")
            return f"predicted {plain} ({known.unit})"
    return _LABELS[name]
