"""The picture of the README: accuracy on the way through training, from the own start and from predicted ones.

    python benchmarks/start_curves.py -o docs/images/starts.svg

The networks are the first eight of the race's small suite, chosen by nothing else; what is drawn are the rows of
benchmarks/results/race.jsonl: means over seeds with their standard errors, at 25, 50 and 100 % of the budget. What
`predict` does by default with a network is the start that policy_judged.json has for it: by rules of other networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import matplotlib
import numpy as np
from figures.race import judged_starts, raced
from racing.entrants import ENTRANTS
from racing.summary import BASELINE, MARKS, Result

_N_NETWORKS, _COLUMNS = 8, 4
_INK, _GREY = "#1e293b", "#64748b"
#: What a reader calls a line, its colour and its width.
_LINES = (
    ("your own start", "#94a3b8", 2.4),
    ("predict (default)", "#2563eb", 2.4),
    ("predict --policy all", "#059669", 1.6),
)
_DATA = {"imagenette-32": "Imagenette, 32 × 32", "tiny-imagenet-20": "Tiny-ImageNet, 20 classes"}


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path), help=".svg or .png.")
def main(output: Path) -> None:
    """Draw it."""
    found = raced("race.jsonl")
    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    style = {"font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "onnx-ghn", "axes.edgecolor": "#cbd5e1"}
    with plt.rc_context(style):
        rows = _N_NETWORKS // _COLUMNS
        figure, grid = plt.subplots(rows, _COLUMNS, figsize=(9.8, 5.4), layout="constrained")
        for axes, network in zip(np.ravel(grid), networks(), strict=True):
            _panel(axes, network, lines_of(network, found[network], judged_starts()))
        handles = [plt.Line2D([], [], color=colour, linewidth=width) for _, colour, width in _LINES]
        figure.legend(
            handles,
            [words for words, _, _ in _LINES],
            loc="outside upper left",
            ncols=3,
            frameon=False,
            fontsize=12,
        )
        figure.supxlabel("share of the training budget (100 to 400 steps)", fontsize=10, color=_GREY)
        figure.supylabel("accuracy on held-out images, %", fontsize=10, color=_GREY)
        figure.savefig(output, dpi=150)
        plt.close(figure)
    click.echo(f"{output}: {_N_NETWORKS} networks")


def lines_of(network: str, of: Mapping[str, Result], by_default: Mapping[str, str]) -> list[Result]:
    """What is drawn of a network: its own start, what it gets by default, and everything predicted.

    Args:
        of: its results by start.
        by_default: the start that each network gets by default.

    Raises:
        ClickException: it has no default, or was not raced from one of them.
    """
    if network not in by_default:
        raise click.ClickException(f"policy_judged.json does not say what {network} gets: fit_policy.py --judged does")
    starts = (BASELINE, by_default[network], "all")
    if missing := [start for start in starts if start not in of]:
        raise click.ClickException(f"race.jsonl has no results of {network} from {', '.join(missing)}")
    return [of[start] for start in starts]


def _panel(axes: matplotlib.axes.Axes, network: str, results: Sequence[Result]) -> None:
    """One network, a line a start."""
    for (_, colour, width), result in zip(_LINES, results, strict=True):
        mean, error = result.mean, result.error
        axes.plot(MARKS, mean, color=colour, linewidth=width, marker="o", markersize=4)
        axes.fill_between(MARKS, mean - error, mean + error, color=colour, alpha=0.14, linewidth=0)
    axes.set_title(network.removesuffix(", thin"), loc="left", fontsize=12, color=_INK, pad=20)
    axes.text(0, 1.03, _DATA[ENTRANTS[network].task], transform=axes.transAxes, fontsize=9, color=_GREY)
    axes.set_xticks(MARKS, [f"{mark} %" for mark in MARKS])
    axes.tick_params(labelsize=9, colors=_GREY, length=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def networks() -> list[str]:
    """Those that are drawn, in their order."""
    return [name for name, entrant in ENTRANTS.items() if "small" in entrant.suites][:_N_NETWORKS]


if __name__ == "__main__":
    main()
