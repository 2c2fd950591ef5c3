"""Search architectures by predicted properties: none of them is trained or run to be ranked.

    python training/nas.py --split search --count 10000 --top 10 -o out/nas
    python training/nas.py --max-latency-ms 2 --by noisy_accuracy -o out/nas
    python training/nas.py --count 10000 -o out/nas --train 1 -D DATA --epochs 600

The same as `onnx-ghn nas`, and as facebookresearch/ppuda (experiments/property_prediction.py) does with its split
`search`; --train is its protocol for the best (600 epochs, cutout, drop path, auxiliary classifier).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command, Option
from onnx_ghn.json_types import Json

if TYPE_CHECKING:
    from onnx_ghn.training.nas.search import Cost, SearchConfig, SearchResult

__all__ = ["nas"]


@click.command("nas", cls=Command, short_help="Rank architectures by predicted properties; export the best.")
@click.option(
    "--split",
    type=click.Choice(cli_options.SPLITS),
    default="search",
    show_default=True,
    help="Split whose rules draw the architectures.",
)
@click.option("--file", help="DeepNets-1M architectures (.hdf5 or .jsonl); without one they are drawn.")
@click.option(
    "--count",
    cls=Option,
    aliases=["-n", "--n"],
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="Number of architectures.",
)
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Seed of all draws.")
@click.option(
    "--channels",
    type=click.IntRange(min=16),
    help="Width of the networks; by default that of the networks behind the predictor.",
)
@click.option("--predictor", metavar="FOLDER", help="Predictor to use instead of the bundled one.")
@click.option("--by", default="accuracy", show_default=True, help="Property to rank by.")
@click.option(
    "--against", type=click.Choice(["latency_ms", "n_params", "n_macs"]), default="latency_ms", show_default=True,
    help="Cost that the Pareto front weighs against it.",
)  # fmt: skip
@click.option("--max-latency-ms", type=float, help="Limit on the predicted latency.")
@click.option("--max-params", type=float, help="Limit on parameters.")
@click.option("--max-macs", type=float, help="Limit on the multiply-accumulates of one image.")
@click.option(
    "--max-percentile", type=float, default=95.0, show_default=True,
    help="Leave out networks that lie further from the networks behind the predictor than this percentage of those do.",
)  # fmt: skip
@click.option(
    "--top", type=click.IntRange(min=1), default=10, show_default=True, help="Number of the best to list and export."
)
@click.option(
    "-o", "--output", required=True, metavar="FOLDER", help="Folder for the tables, the picture and the ONNX files."
)
@click.option("--picture/--no-picture", default=True, help="Draw the front as front.svg.")
@click.option(
    "--compare", type=click.IntRange(min=1), help="Number of the best to train briefly, beside as many random ones."
)
@click.option(
    "--compare-steps", type=click.IntRange(min=1), default=400, show_default=True, help="Training steps of --compare."
)
@click.option(
    "--n-images",
    type=click.IntRange(min=1),
    default=1500,
    show_default=True,
    help="Validation images that --compare measures on.",
)
@click.option("--train", "n_train", type=click.IntRange(min=1), help="Number of the best to train as `train-net` does.")
@click.option("-e", "--epochs", type=click.IntRange(min=0), default=600, show_default=True, help="Epochs of --train.")
@click.option("-d", "--dataset", default="cifar10", show_default=True, help="Data set of --train and --compare.")
@cli_options.data_dir
@cli_options.jobs
@click.option("--force", is_flag=True, help="Write into a folder that is not empty.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@click.pass_context
def nas(
    ctx: click.Context,
    /,
    split: str,
    file: str | None,
    count: int,
    seed: int,
    channels: int | None,
    predictor: str | None,
    by: str,
    against: Cost,
    max_latency_ms: float | None,
    max_params: float | None,
    max_macs: float | None,
    max_percentile: float,
    top: int,
    output: str,
    picture: bool,
    compare: int | None,
    compare_steps: int,
    n_images: int,
    n_train: int | None,
    epochs: int,
    dataset: str,
    data_dir: str,
    workers: int,
    backend: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Rank architectures by predicted properties; export the best, draw the Pareto front, train if asked."""
    from onnx_ghn.cli.terminal import bar
    from onnx_ghn.profiling.picture import check_picture
    from onnx_ghn.training.nas.comparison import compare as train_alike
    from onnx_ghn.training.nas.output import new_folder, write_results
    from onnx_ghn.training.nas.search import Limits, SearchConfig, search, space_of
    from onnx_ghn.training.properties.ground_truth import Brief

    limits = Limits(max_latency_ms, max_params, max_macs, max_percentile)
    config = SearchConfig(split, seed, file, channels, count, predictor, by, against, limits, top)
    # Whatever would fail after the search fails before it.
    if picture:
        check_picture("front.svg")
    space = space_of(config)
    folder = new_folder(output, force)
    with bar("predicting properties", count) as advance:
        found = search(config, space, workers=workers, backend=backend, told=advance)
    with bar("exporting", len(found.best)) as advance:
        write_results(folder, config, found, picture=picture, told=advance)
    compared = None
    if compare:
        brief = Brief(dataset=dataset, channels=space.channels, n_images=n_images, steps=compare_steps)
        compared = train_alike(
            config, found, compare, brief, data_dir, folder, workers=workers, backend=backend, bar=bar
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(_as_json(config, found, compared), indent=2))
    else:
        _print(config, found, compared, compare_steps, folder)
    for index in found.best.indices[: n_train or 0].tolist():
        _train(ctx, index, config, space.channels, folder, epochs, dataset, data_dir, as_json)


def _train(
    ctx: click.Context, index: int, config: SearchConfig, channels: int, folder: Path, epochs: int, dataset: str,
    data_dir: str, as_json: bool,
) -> None:  # fmt: skip
    """Train one of the best by the published protocol."""
    from onnx_ghn.cli.train_net import train_net

    ctx.invoke(
        train_net, split=config.split, file=config.file, epochs=epochs, dataset=dataset, data_dir=data_dir,
        arch=str(index), arch_seed=config.seed, init_channels=channels, cutout=True, drop_path_prob=0.2,
        auxiliary=True, save_dir=str(folder), name=f"{config.split}-{index}", as_json=as_json,
    )  # fmt: skip


def _as_json(config: SearchConfig, found: SearchResult, compared: list[Json] | None) -> Json:
    from onnx_ghn.training.nas.output import rows

    counts = {"drawn": len(found.every), "within_limits": len(found.good), "wall_s": round(found.wall_s, 1)}
    trained = {} if compared is None else {"compared": compared}
    return {**counts, **trained, "best": rows(found.best, config.split), "front": rows(found.edge, config.split)}


def _print(config: SearchConfig, found: SearchResult, compared: list[Json] | None, steps: int, folder: Path) -> None:
    from onnx_ghn.cli.properties_tables import rows_table
    from onnx_ghn.cli.terminal import console
    from onnx_ghn.training.nas.output import rows

    out = console()
    top = rows(found.best, config.split)
    out.print(rows_table(top, f"the best {len(top)} by predicted {config.by.replace('_', ' ')}"))
    if compared is not None:
        out.print(rows_table(compared, f"trained alike for {steps} steps"))
    out.print(
        f"{len(found.every):,} architectures in {found.wall_s:.0f} s, {len(found.good):,} within the limits, "
        f"{len(found.edge)} on the front; {folder}: ranking.csv, front.csv, {len(top)} ONNX files",
        highlight=False,
    )
