"""The picture: what each start gains or loses beside the own values, and the curves of a few networks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from onnx_ghn.errors import OptionError
from racing.summary import BASELINE, MARKS, Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import SubFigure

__all__ = ["draw"]

_COLOURS = ("#2563eb", "#d97706", "#059669", "#9333ea", "#dc2626", "#0891b2", "#be185d", "#65a30d", "#7c3aed")
_GREY, _PALE, _DARK = "#64748b", "#f1f5f9", "#1e293b"
_WIDEST = 30.0  # points: what lies farther out is drawn at the edge, with its number
_N_CURVES, _CURVE_COLUMNS = 6, 2


def draw(found: Results, path: Path) -> None:
    """Write it as .png or .svg, after the format that the name of the file has.

    Args:
        found: by network and start; networks without `BASELINE` are left out.

    Raises:
        OptionError: no network is left.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    found = {network: of for network, of in found.items() if BASELINE in of and len(of) > 1}
    if not found:
        raise OptionError(f"there is nothing to draw yet: no network has all rates of {BASELINE} and of another start")
    kinds = list(dict.fromkeys(of[BASELINE].kind for of in found.values()))
    networks = sorted(found, key=lambda network: kinds.index(found[network][BASELINE].kind))
    others = list(dict.fromkeys(start for of in found.values() for start in of if start != BASELINE))
    colours = {BASELINE: _GREY, **{start: _COLOURS[i % len(_COLOURS)] for i, start in enumerate(others)}}
    with plt.rc_context(
        {"font.size": 10, "svg.fonttype": "none", "svg.hashsalt": "onnx-ghn", "axes.edgecolor": "#94a3b8"}
    ):
        height = max(5.5, 1.6 + 0.27 * (len(networks) + len(kinds)))
        figure = plt.figure(figsize=(13, height), layout="constrained")
        left, right = np.ravel(figure.subfigures(1, 2, squeeze=False, width_ratios=(1.15, 1)))
        _differences(left.subplots(), found, networks, others, colours)
        _curves(right, found, _telling(found, networks), colours)
        figure.savefig(path, dpi=160)
        plt.close(figure)


def _differences(
    axes: Axes, found: Results, networks: Sequence[str], others: Sequence[str], colours: Mapping[str, str]
) -> None:
    """A line a network, a dot a start: points above the own values at the end, with the error of the difference."""
    y, kind = 0.0, ""
    ticks: list[float] = []
    labels: list[str] = []
    shift = np.linspace(-0.3, 0.3, len(others)) if len(others) > 1 else np.zeros(1)
    for network in networks:
        of = found[network]
        base = of[BASELINE]
        if base.kind != kind:
            kind = base.kind
            axes.text(-_WIDEST, y + 0.1, kind, fontsize=9, color=_GREY, style="italic", va="center")
            y += 1
        if len(ticks) % 2 == 0:
            axes.axhspan(y - 0.5, y + 0.5, color=_PALE, zorder=0)
        ticks.append(y)
        labels.append(network)
        for start, offset in zip(others, shift, strict=True):
            if start not in of:
                continue
            gain, error = (float(at[-1]) for at in of[start].beside(base))
            place = max(-_WIDEST, min(_WIDEST, gain))
            if place != gain:
                axes.annotate(
                    f"{gain:+.0f}", (place, y + offset), xytext=(-6 if gain > 0 else 6, 0), textcoords="offset points",
                    fontsize=7, color=colours[start], va="center", ha="right" if gain > 0 else "left",
                )  # fmt: skip
            elif not math.isnan(error):
                axes.plot(
                    [gain - error, gain + error], [y + offset] * 2, color=colours[start], linewidth=1.2, alpha=0.6
                )
            marker = "o" if place == gain else (">" if gain > 0 else "<")
            axes.scatter(place, y + offset, s=26, color=colours[start], marker=marker, linewidths=0, zorder=3)
        y += 1
    axes.axvline(0, color=_DARK, linewidth=1)
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlim(-_WIDEST - 1.5, _WIDEST + 1.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", alpha=0.25)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel(f"points above {BASELINE}, at the end of the budget")
    axes.set_title("Each start beside the network's own values", loc="left", fontsize=12, color=_DARK)
    for start in others:
        axes.scatter([], [], s=30, color=colours[start], label=start)
    axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.4, -0.06), ncols=min(6, len(others)))


def _curves(figure: SubFigure, found: Results, networks: Sequence[str], colours: Mapping[str, str]) -> None:
    """A small picture a network: the metric at the marks, with standard errors, for each start."""
    rows = max(1, -(-len(networks) // _CURVE_COLUMNS))
    grid = figure.subplots(rows, _CURVE_COLUMNS, squeeze=False)
    figure.suptitle("On the way", x=0.02, ha="left", fontsize=12, color=_DARK)
    for axes in grid.flat[len(networks) :]:
        axes.set_visible(False)
    for axes, network in zip(grid.flat, networks, strict=False):
        for start, result in found[network].items():
            width, order = (2.2, 3) if start == BASELINE else (1.6, 2)
            axes.plot(
                MARKS, result.mean, color=colours[start], linewidth=width, marker="o", markersize=3.5, zorder=order
            )
            low, high = result.mean - result.error, result.mean + result.error
            axes.fill_between(MARKS, low, high, color=colours[start], alpha=0.12, linewidth=0)
        axes.set_title(network, loc="left", fontsize=10)
        axes.set_ylabel(next(iter(found[network].values())).metric.partition(":")[0], fontsize=8, color=_GREY)
        axes.set_xticks(MARKS, [f"{mark} %" for mark in MARKS])
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(f"of the budget; {BASELINE} is grey", fontsize=9, color=_GREY)


def _telling(found: Results, networks: Sequence[str]) -> list[str]:
    """Networks whose starts lie farthest apart at the end, one of each kind before a second one, in their order."""

    def spread(network: str) -> float:
        ends = [float(result.mean[-1]) for result in found[network].values()]
        return max(ends) - min(ends)

    seen: dict[str, int] = {}
    ranked: list[tuple[int, float, str]] = []
    for network in sorted(networks, key=spread, reverse=True):
        kind = found[network][BASELINE].kind
        seen[kind] = seen.get(kind, -1) + 1
        ranked.append((seen[kind], -spread(network), network))
    chosen = {network for _, _, network in sorted(ranked)[:_N_CURVES]}
    return [network for network in networks if network in chosen]
