"""Options that several commands have, written once. Nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import click

from onnx_ghn.cli.checks import check_ghn, check_model, check_pattern
from onnx_ghn.cli.commands import Option, checked
from onnx_ghn.json_types import JsonView
from onnx_ghn.parallel import BACKENDS

__all__ = [
    "NETWORK_SPLITS",
    "SPLITS",
    "as_json",
    "data_dir",
    "dataset",
    "force",
    "ghn",
    "jobs",
    "machine",
    "model",
    "named_shape",
    "network",
    "optimizer",
    "output",
    "patterns",
    "run",
    "seed",
    "set_up",
    "shape",
    "start",
    "together",
    "until",
]

SPLITS = ("train", "val", "test", "wide", "deep", "dense", "bnfree", "search")
"""Whose rules draw networks: those of `deepnets1m.SPLITS`, without its imports."""
NETWORK_SPLITS = (*SPLITS, "predefined", "torchvision")
"""Where one network is found."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Decorator(Protocol):
    """What adds options to a command."""

    def __call__(self, command: _Command, /) -> _Command: ...


_at_least_1 = click.IntRange(min=1)


def together(*options: _Decorator) -> _Decorator:
    """A decorator that adds all of them, in this order."""

    def add(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def ghn(help_text: str) -> _Decorator:
    """A GHN, as `ghn`: a shipped name, a folder, a published file."""
    return click.option(
        "-C",
        "--ghn",
        cls=Option,
        aliases=["--ckpt"],
        metavar="GHN",
        callback=checked(check_ghn),
        help=f"{help_text}: a shipped name (see `ghns`), a folder, or a published .pt file.",
    )


def patterns(name: str, help_text: str) -> _Decorator:
    """Regular expressions."""
    return click.option(name, multiple=True, metavar="REGEX", callback=checked(check_pattern), help=help_text)


def output(help_text: str) -> _Decorator:
    """The file to write, as `output`."""
    return click.option("-o", "--output", required=True, metavar="FILE", help=help_text)


model = click.argument("model", callback=checked(check_model))
dataset = click.option(
    "-d",
    "--dataset",
    default="cifar10",
    show_default=True,
    help="The data set: cifar10, imagenet, or a folder or zip archive.",
)
data_dir = click.option("-D", "--data-dir", default="./data", show_default=True, help="The folder of data sets.")
until = click.option(
    "--until",
    type=_at_least_1,
    help="The step to stop at for now; the schedule stays that of the whole run.",
)
as_json = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
force = click.option("--force", is_flag=True, help="Overwrite an existing output file.")
seed = click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed.")
machine = together(
    click.option("--threads", type=_at_least_1, help="Threads of each process on the CPU (default: all cores)."),
    click.option("--device", help="Device to compute on: cpu or cuda (default: cuda where there is one)."),
)
"""See `set_up`."""

jobs = together(
    click.option(
        "--workers", type=int, default=1, show_default=True, help="Jobs that run at once; -1 for one per core."
    ),
    click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        help="Engine that runs the jobs (default: joblib's loky). dask and ray start a cluster on this machine, or "
        "use the one at DASK_SCHEDULER_ADDRESS or RAY_ADDRESS.",
    ),
)
"""How independent jobs are spread; see `onnx_ghn.parallel`."""

network = together(
    click.option(
        "--split",
        type=click.Choice(NETWORK_SPLITS),
        default="predefined",
        show_default=True,
        help="Split of DeepNets-1M.",
    ),
    click.option(
        "--arch",
        default="DARTS",
        show_default=True,
        help="Network: DARTS, PDARTS, ResNet-50, ViT, an index of the split, or a torchvision name.",
    ),
    click.option(
        "--file", help="File of DeepNets-1M architectures (.hdf5 or .jsonl); without one, the split is sampled."
    ),
    click.option(
        "--arch-seed",
        type=click.IntRange(min=0),
        default=1111,
        show_default=True,
        help="Random seed of the sampled split.",
    ),
    click.option(
        "--init-channels",
        type=_at_least_1,
        help="Initial channels of DARTS and PDARTS (default: 36, or 48 for 224 × 224 images).",
    ),
    click.option(
        "--layers",
        type=_at_least_1,
        help="Number of cells of DARTS and PDARTS (default: 20, or 14 for 224 × 224 images).",
    ),
)
"""One network to train; see `training.starting_net`."""

start = together(
    click.option(
        "-C",
        "--ghn",
        "ckpt",
        cls=Option,
        aliases=["--ckpt"],
        help="Start from what this GHN predicts: a shipped name, a folder, or a published .pt file.",
    ),
    click.option("--pretrained", is_flag=True, help="Start from torchvision's ImageNet weights."),
    click.option(
        "--init",
        type=click.Choice(["rand", "orth", "kaiming"]),
        default="rand",
        show_default=True,
        help="Random weights to start from: the layers' own (rand), orthogonal (orth), or Kaiming's.",
    ),
)
"""The weights that it starts from."""


def shape(text: str | tuple[int, ...]) -> tuple[int, ...]:
    """A type of options: a shape, such as `1x3x224x224`; commas between are accepted, too."""
    if isinstance(text, tuple):
        return text
    try:
        return tuple(int(side) for side in text.replace("×", "x").replace(",", "x").split("x")) if text else ()
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no shape; write 1x3x224x224") from error


def named_shape(text: str | tuple[str, tuple[int, ...]]) -> tuple[str, tuple[int, ...]]:
    """A type of options: the name of an input, or none, and a shape, such as `images:1x3x224x224`."""
    if isinstance(text, tuple):
        return text
    name, _, sides = text.rpartition(":")
    return name, shape(sides)


def optimizer(default: str) -> _Decorator:
    """That of `training.optimizers`."""
    names = click.Choice(["sgd", "adam", "adamw", "muon"])
    return click.option("--opt", type=names, default=default, show_default=True, help="Optimiser.")


def run(name: str | None, *, save: int, log: int) -> _Decorator:
    """A run of training that goes on where it was stopped.

    Args:
        name: of its folder; the output file's where it is None.
        save, log: steps.
    """
    unless = "" if name else " (default: the name of the output file)"
    return together(
        click.option(
            "-S",
            "--save-dir",
            default="./out",
            show_default=True,
            help="Folder of all runs, each with its log and the state to resume from.",
        ),
        click.option(
            "--name", default=name, show_default=bool(name), help=f"Name of the run, a folder in --save-dir{unless}."
        ),
        click.option(
            "--save-interval", type=_at_least_1, default=save, show_default=True, help="Steps between saved states."
        ),
        click.option(
            "-l",
            "--log-interval",
            type=_at_least_1,
            default=log,
            show_default=True,
            help="Steps between lines of the log.",
        ),
    )


def set_up(options: JsonView) -> str:
    """Give torch the --threads that are told, and say which --device to use. Raises OptionError: it is not there."""
    import torch

    from onnx_ghn.errors import OptionError

    if options["threads"]:
        torch.set_num_threads(options["threads"])
    device: str | None = options["device"]
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise OptionError(f"--device {device}: torch cannot use it here ({str(error)[:80]}…); try cpu") from error
    return device
