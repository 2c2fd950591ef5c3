"""Search architectures by predicted properties: none of them is trained or run to be ranked.

    python training/nas.py --split search --count 10000 --top 10 -o out/nas
    python training/nas.py --max-latency-ms 2 --by noisy_accuracy -o out/nas
    python training/nas.py --count 10000 -o out/nas --train 1 -D DATA --epochs 600

The same as `onnx-ghn nas`, and as facebookresearch/ppuda (experiments/property_prediction.py) does with its split
`search`; --train is its protocol for the best (600 epochs, cutout, drop path, auxiliary classifier).
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command, Option

if TYPE_CHECKING:
    from pathlib import Path

    from onnx_ghn.training.nas.search import Candidates, Space

__all__ = ["nas"]


@click.command("nas", cls=Command, short_help="Rank architectures by predicted properties; export the best.")
@click.option(
    "--split", type=click.Choice(cli_options.SPLITS), default="search", show_default=True, help="Whose rules draw."
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are drawn.")
@click.option(
    "--count",
    cls=Option,
    aliases=["-n", "--n"],
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="How many.",
)
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Of all draws.")
@click.option("--channels", type=click.IntRange(min=16), help="Width; that of the predictor's networks unless told.")
@click.option("--predictor", metavar="FOLDER", help="A predictor; the bundled one unless told.")
@click.option("--by", default="accuracy", show_default=True, help="Property to rank by.")
@click.option(
    "--against", type=click.Choice(["latency_ms", "n_params", "n_macs"]), default="latency_ms", show_default=True,
    help="Cost of the Pareto front.",
)  # fmt: skip
@click.option("--max-latency-ms", type=float, help="Limit on the predicted latency.")
@click.option("--max-params", type=float, help="Limit on parameters.")
@click.option("--max-macs", type=float, help="Limit on multiply-accumulates of an image.")
@click.option(
    "--max-percentile", type=float, default=95.0, show_default=True,
    help="Leave out what is further from the seen networks than so many percent of themselves.",
)  # fmt: skip
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="How many to list and export.")
@click.option("-o", "--output", required=True, metavar="FOLDER", help="For tables, picture and ONNX files.")
@click.option("--picture/--no-picture", default=True, help="Draw the front as front.svg.")
@click.option(
    "--compare", type=click.IntRange(min=1), help="Train so many of the best briefly, and as many random ones."
)
@click.option("--compare-steps", type=click.IntRange(min=1), default=400, show_default=True, help="Of that training.")
@click.option("--n-images", type=click.IntRange(min=1), default=1500, show_default=True, help="That judge it.")
@click.option("--train", "n_train", type=click.IntRange(min=1), help="Train so many of the best as `train-net` does.")
@click.option("-e", "--epochs", type=click.IntRange(min=0), default=600, show_default=True, help="Of --train.")
@click.option("-d", "--dataset", default="cifar10", show_default=True, help="Of --train and --compare.")
@cli_options.data_dir
@click.option("--workers", type=int, default=1, show_default=True, help="Processes; -1 for one a core.")
@click.option("--backend", type=click.Choice(["loky", "threading", "ray", "dask"]), help="Of joblib.")
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def nas(ctx: click.Context, **options: Any) -> None:
    """Rank architectures by predicted properties; export the best, draw the Pareto front, train if asked."""
    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.profiling.picture import check_picture
    from onnx_ghn.properties import load_predictor
    from onnx_ghn.training.nas.output import new_folder
    from onnx_ghn.training.nas.search import Space, check_names, explore, front, ranked, within

    # Whatever would fail after the search fails before it.
    if options["picture"]:
        check_picture("front.svg")
    predictor = load_predictor(options["predictor"])
    options["channels"] = options["channels"] or predictor.report.get("measured", {}).get("channels", 16)
    check_names(predictor.regressions, options["by"], options["against"], options["max_latency_ms"])
    folder = new_folder(options["output"], options["force"])
    space = Space(options["split"], options["seed"], options["channels"], file=options["file"])
    told = {key: options[key] for key in ("workers", "backend")}
    began = time.perf_counter()
    with bar("predicting properties", options["count"]) as advance:
        every = explore(space, options["count"], options["predictor"], told=advance, **told)
    limits = {
        key: options[f"max_{key.removeprefix('n_')}"] for key in ("latency_ms", "n_params", "n_macs", "percentile")
    }
    good = ranked(within(every, limits), options["by"])
    best, edge = good[slice(options["top"])], front(good, options["by"], options["against"])
    wall_s = time.perf_counter() - began
    _write(folder, space, every, good, best, edge, options)
    found: dict[str, Any] = {"drawn": len(every), "within_limits": len(good), "wall_s": round(wall_s, 1)}
    if options["compare"]:
        found["compared"] = _compare(folder, space, good, options)
    _print(found, best, edge, folder, options)
    for index in best.indices[: options["n_train"] or 0].tolist():
        _train(ctx, index, folder, options)


def _write(
    folder: Path, space: Space, every: Candidates, good: Candidates, best: Candidates, edge: Candidates,
    options: dict[str, Any],
) -> None:  # fmt: skip
    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.deepnets1m.export import export_network
    from onnx_ghn.training.nas.output import as_csv, draw_front, rows

    for name, chosen in (("ranking.csv", good), ("front.csv", edge)):
        new = folder / f".{name}.tmp"
        new.write_text(as_csv(rows(chosen, space.split)), "utf-8")
        new.replace(folder / name)
    if options["picture"]:
        title = f"{len(every):,} architectures by predicted properties"
        draw_front(good, best, edge, options["by"], options["against"], folder / "front.svg", title)
    with bar("exporting", len(best)) as advance:
        for index in best.indices.tolist():
            export_network(space.architecture(index), folder / f"{space.split}-{index}.onnx", force=True)
            advance(1)


def _compare(folder: Path, space: Space, good: Candidates, options: dict[str, Any]) -> list[dict[str, Any]]:
    """The best and as many of the rest at random, each trained alike from random weights."""
    import dataclasses

    import numpy as np

    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.parallel import in_order
    from onnx_ghn.errors import OptionError
    from onnx_ghn.training.nas.output import rows
    from onnx_ghn.training.properties.ground_truth import Brief, train_briefly
    from onnx_ghn.training.results import ResultsFile

    n = options["compare"]
    if len(good) < 2 * n:
        raise OptionError(
            f"--compare {n}: only {len(good)} architectures are within the limits; draw more with --count"
        )
    drawn = np.random.default_rng(options["seed"]).choice(np.arange(n, len(good)), n, replace=False)
    chosen = good[np.concatenate([np.arange(n), np.sort(drawn)])]
    told = {key: options[key] for key in ("dataset", "channels", "n_images")}
    brief = Brief(**told, steps=options["compare_steps"])
    settings = {key: options[key] for key in ("split", "file", "seed", "by")} | dataclasses.asdict(brief)
    entries = rows(chosen, space.split)
    with ResultsFile(folder / "compared.jsonl", settings) as results:
        todo = [i for i, entry in enumerate(entries) if entry["name"] not in results.records]
        tasks = [(space.architecture(int(chosen.indices[i])), brief, options["data_dir"]) for i in todo]
        with bar("training", len(entries), len(entries) - len(todo)) as advance:
            for i, record in zip(
                todo, in_order(train_briefly, tasks, options["workers"], options["backend"]), strict=True
            ):
                results.add(entries[i]["name"], record)
                advance(1)
    measured = (results.records[entry["name"]] for entry in entries)
    return [
        {"name": entry["name"], "chosen": "best" if i < n else "random", "predicted": entry[options["by"]],
         "top1": record["top1"], "noisy_top1": record["noisy_top1"]}
        for i, (entry, record) in enumerate(zip(entries, measured, strict=True))
    ]  # fmt: skip


def _train(ctx: click.Context, index: int, folder: Path, options: dict[str, Any]) -> None:
    """The published protocol for the best of a search."""
    from onnx_ghn.cli.train_net import train_net

    told = {key: options[key] for key in ("split", "file", "epochs", "dataset", "data_dir")}
    ctx.invoke(
        train_net, **told, arch=str(index), arch_seed=options["seed"], init_channels=options["channels"],
        cutout=True, drop_path_prob=0.2, auxiliary=True, save_dir=str(folder), name=f"{options['split']}-{index}",
        as_json=options["as_json"],
    )  # fmt: skip


def _print(found: dict[str, Any], best: Candidates, edge: Candidates, folder: Path, options: dict[str, Any]) -> None:
    from onnx_ghn.training.nas.output import rows

    top, on_front = rows(best, options["split"]), rows(edge, options["split"])
    if options["as_json"]:
        click.echo(json.dumps({**found, "best": top, "front": on_front}, indent=2))
        return
    from onnx_ghn.cli.properties_tables import rows_table
    from onnx_ghn.cli.terminal import console

    out = console()
    out.print(rows_table(top, f"the best {len(top)} by predicted {options['by'].replace('_', ' ')}"))
    if "compared" in found:
        out.print(rows_table(found["compared"], f"trained alike for {options['compare_steps']} steps"))
    out.print(
        f"{found['drawn']:,} architectures in {found['wall_s']:.0f} s, {found['within_limits']:,} within the limits, "
        f"{len(on_front)} on the front; {folder}: ranking.csv, front.csv, {len(top)} ONNX files",
        highlight=False,
    )
