"""`onnx-ghn finetune`: an ONNX file trained as it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import console, spinner, training_progress
from onnx_ghn.errors import printable

if TYPE_CHECKING:
    from onnx_ghn.finetuning import FinetuneResult

__all__ = ["finetune"]


@click.command(cls=Command, short_help="Train MODEL, an ONNX classifier of images, as it is.")
@cli_options.model
@click.option(
    "-d",
    "--data",
    required=True,
    metavar="FOLDER|ZIP",
    help="Images: class folders or a zip archive of them, or cifar10 or cifar100.",
)
@click.option("-D", "--data-dir", default="./data", show_default=True, help="Folder of named data sets.")
@cli_options.output("File to write the tuned model to, an .onnx file.")
@click.option(
    "--val",
    default="test",
    show_default=True,
    metavar="test|SHARE|FOLDER|ZIP",
    help="Images to judge on: the data's test images, a share of each class held out, or others.",
)
@click.option(
    "-e", "--epochs", type=click.IntRange(min=1), default=2, show_default=True, help="Passes over the images."
)
@click.option("--steps", type=click.IntRange(min=1), help="Number of training steps, instead of epochs.")
@click.option("-b", "--batch-size", type=click.IntRange(min=1), default=64, show_default=True, help="Images per step.")
@cli_options.optimizer("sgd")
@click.option(
    "--lr", type=float, default=0.01, show_default=True, help="Initial learning rate, which falls to 0 along a cosine."
)
@click.option("--wd", type=float, default=3e-4, show_default=True, help="Weight decay.")
@click.option("--grad-clip", type=float, default=5.0, show_default=True, help="Largest gradient norm.")
@click.option("--label-smoothing", type=float, default=0.0, show_default=True, help="Label smoothing.")
@click.option(
    "--augment/--no-augment", default=True, show_default=True, help="Train on random windows and mirrored images."
)
@cli_options.patterns("--freeze", "Leave tensors whose names match as they are.")
@cli_options.patterns("--train", "Train only tensors whose names match.")
@click.option("--amp", is_flag=True, help="Compute in bfloat16.")
@click.option("-s", "--seed", type=click.IntRange(min=0), default=1111, show_default=True, help="Random seed.")
@cli_options.run(None, save=200, log=20)
@cli_options.machine
@click.option("--force", is_flag=True, help="Overwrite the output file.")
@cli_options.as_json
def finetune(
    model: str,
    data: str,
    output: str,
    data_dir: str,
    save_dir: str,
    name: str | None,
    threads: int | None,
    device: str | None,
    force: bool,
    as_json: bool,
    **settings: Any,
) -> None:
    """Train MODEL, an ONNX classifier of images, and write it with its new weights: same graph, same names.

    This is for a file whose framework code is not at hand. All float32 tensors that `inspect` lists are trained, apart
    from frozen ones, and so are the running statistics of batch norms. Accuracies are those of the files, measured by
    onnxruntime.
    """
    check_output(output, [".onnx"], "an ONNX model", force)
    from onnx_ghn.finetuning import FinetuneOptions, Finetuning

    options = FinetuneOptions(device=cli_options.set_up({"threads": threads, "device": device}), **settings)
    folder = Path(save_dir) / (name or Path(output).stem)
    with spinner(printable(f"reading, converting and judging {model}")):
        tuning = Finetuning(model, data, output, options, data_dir=data_dir, run_folder=folder, force=force)
    loop = tuning.loop
    if not as_json:
        for note in tuning.notes:
            click.echo(printable(note))
        begun = f"going on from step {loop.step} of {loop.steps}" if tuning.resumed else f"{loop.steps} steps"
        click.echo(f"{model}: top-1 {tuning.before.top1:.2f} % before training; {folder}: {begun}")
    per_step = {"images": options.batch_size}
    with training_progress(loop.step, loop.steps, options.log_interval, per_step, silent=as_json) as report:
        result = tuning.run(report)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    _print_accuracies(model, output, result)
    click.echo(
        f"{output}: {result.n_trained} tensors trained, {result.n_statistics} running statistics moved, "
        f"{result.steps} steps on {result.n_images:,} images"
    )


def _print_accuracies(model: str, output: str, result: FinetuneResult) -> None:
    from onnx_ghn.cli.tables import new_table

    first = f"{result.after.n_images:,} held-out images, by onnxruntime"
    table = new_table((first, "left"), ("top-1 %", "right"), ("top-5 %", "right"))
    for name, measured in ((model, result.before), (output, result.after)):
        table.add_row(printable(name), f"{measured.top1:.2f}", f"{measured.top5:.2f}")
    console().print(table)
