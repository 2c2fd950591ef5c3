"""What predictions compute beside fresh initialisations: the sweep of `make test-sound` as a table.

    python benchmarks/sound.py --out sound.jsonl               # measures; a run that was stopped goes on
    python benchmarks/sound.py --out sound.jsonl --table       # the table of docs/coverage.md

Scales are root mean squares of the first output. Before: the file's own fresh weights, or the standard initialisation
where it has none, with batch norms that use the statistics of the batch. After: the file that `predict` wrote, with the
bundled GHN and default options. Both by onnxruntime on the same seeded input. Loss: cross entropy with random labels.
"""

from __future__ import annotations

import collections
import dataclasses
import gc
import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import click

_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(_TESTS), str(_TESTS / "sound")]

from measuring import measured  # noqa: E402
from networks import NETWORKS  # noqa: E402


@click.command()
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option("--only", default="", help="Networks whose name or group contains this.")
@click.option("--table", is_flag=True, help="Print what the file holds, and measure nothing.")
def main(out: Path, only: str, table: bool) -> None:
    """Measure all networks that the file lacks, or print the table."""
    rows = _rows(out)
    if table:
        _print(rows)
        return
    warnings.simplefilter("ignore")
    for network in NETWORKS:
        if network.name in rows or (only not in network.name and only not in network.group):
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                row = dataclasses.asdict(measured(network, Path(folder)))
            except Exception as error:  # noqa: BLE001 - a defect, which the table shows
                row = {"name": network.name, "group": network.group, "failed": f"{type(error).__name__}: {error}"}
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)
        gc.collect()


def _rows(path: Path) -> dict[str, dict[str, Any]]:
    """The last line of each network, in the order of the table."""
    lines = map(json.loads, path.read_text().splitlines()) if path.exists() else iter(())
    found = {row["name"]: row for row in lines}
    return {network.name: found[network.name] for network in NETWORKS if network.name in found}


def _print(rows: dict[str, dict[str, Any]]) -> None:
    groups = collections.defaultdict(list)
    for row in rows.values():
        groups[row["group"]].append(row)
    for group, members in groups.items():
        print(f"\n### {group[0].upper()}{group[1:]}\n")
        print("| model | predicted % | kept % | scale before → after | loss before → after | scaled |")
        print("|---|---:|---:|---:|---:|---|")
        for row in members:
            if "failed" in row:
                print(f"| {row['name']} | failed: {row['failed']} | | | | |")
                continue
            loss = "" if row["loss_after"] is None else f"{row['loss_before']:.2f} → {row['loss_after']:.2f}"
            scale = f"{row['scale_before']:.2g} → {row['scale_after']:.2g}"
            shares = f"{100 * row['predicted']:.1f} | {100 * row['kept']:.1f}"
            print(f"| {row['name']} | {shares} | {scale} | {loss} | {row['scaled']} |")
    if reasons := [f"- {network.name}: {network.beyond}" for network in NETWORKS if network.beyond]:
        print("\n### Beyond the limits\n", *reasons, sep="\n")


if __name__ == "__main__":
    main()
