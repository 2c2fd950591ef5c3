"""`onnx-ghn finetune`: an ONNX file trained as it is."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command, speak_of_options
from onnx_ghn.cli.options import Machine
from onnx_ghn.cli.terminal import begun, console, loop_progress, spinner, tell
from onnx_ghn.errors import counted, printable
from onnx_ghn.finetuning.settings import FinetuneOptions
from onnx_ghn.settings import required, setting
from onnx_ghn.training.trackers import Tracking

if TYPE_CHECKING:
    from onnx_ghn.finetuning import FinetuneResult

__all__ = ["finetune"]


@click.command(cls=Command, short_help="Train MODEL, an ONNX classifier of images, as it is.")
@cli_options.model
def finetune(
    model: str,
    options: FinetuneOptions,
    tracking: Tracking,
    machine: Machine,
    data: str = required(
        "Images: class folders or a zip archive of them, or cifar10 or cifar100.", "-d", metavar="FOLDER|ZIP"
    ),
    data_dir: str = setting("./data", "Folder of named data sets.", "-D"),
    download: bool = setting(False, "Fetch CIFAR-10 or CIFAR-100 into --data-dir where it is absent."),
    output: str = cli_options.output("File to write the tuned model to, an .onnx file."),
    save_dir: str = setting("./out", "Folder of all runs, each with its log and the state to resume from.", "-S"),
    name: str | None = setting(None, "Name of the run, a folder in --save-dir (default: the name of the output file)."),
    force: bool = cli_options.force("Overwrite the output file."),
    as_json: bool = cli_options.as_json(),
) -> None:
    """Train MODEL, an ONNX classifier of images, and write it with its new weights: same graph, same names.

    This is for a file whose framework code is not at hand. All float32 tensors that `inspect` lists are trained, apart
    from frozen ones, and so are the running statistics of batch norms. Accuracies are those of the files, measured by
    onnxruntime.
    """
    check_output(output, [".onnx"], "an ONNX model", force, [model, data])
    from onnx_ghn.finetuning import Finetuning

    if download:
        from onnx_ghn.vision import fetch_dataset

        fetch_dataset(data, data_dir)
    options = dataclasses.replace(options, device=machine.set_up())
    folder = Path(save_dir) / (name or Path(output).stem)
    with spinner(printable(f"reading, converting and judging {model}")):
        tuning = Finetuning(model, data, output, options, data_dir=data_dir, run_folder=folder, force=force)
    tuning.loop.track(tracking, {"model": model, "data": data, **dataclasses.asdict(options)})
    if not as_json:
        for note in tuning.notes:
            tell(speak_of_options(note, click.get_current_context()))
        told = begun(tuning.loop, tuning.resumed)
        tell(f"{model}: top-1 {tuning.before.top1:.2f} % before training; {folder}: {told}")
    with loop_progress(tuning.loop, options, {"images": options.batch_size}, silent=as_json) as report:
        result = tuning.run(report)
    if as_json:
        click.echo(json.dumps(result.to_dict(), indent=2))
        return
    _print_accuracies(model, output, result)
    for note in result.notes[len(tuning.notes) :]:
        tell(speak_of_options(note, click.get_current_context()))
    tell(
        f"{output}: {counted(result.n_trained, 'tensor')} trained, {result.n_statistics} running statistics moved, "
        f"{counted(result.steps, 'step')} on {counted(result.n_images, 'image')}"
    )


def _print_accuracies(model: str, output: str, result: FinetuneResult) -> None:
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import new_table

    first = f"{result.after.n_images:,} held-out images, by onnxruntime"
    table = new_table((first, "left"), ("top-1 %", "right"), ("top-5 %", "right"))
    for name, measured in ((model, result.before), (output, result.after)):
        table.add_row(printable(name), f"{measured.top1:.2f}", f"{measured.top5:.2f}")
    print_table(console(), table)
