"""Spellings of options: kebab-case is listed, the published snake_case is accepted, errors speak of options."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from cli_tools import command, one_line
from click.testing import CliRunner

from onnx_ghn.cli import cli
from onnx_ghn.cli.commands import Command, Group, Option
from onnx_ghn.cli.number_lists import named_shapes, named_sizes, shape
from onnx_ghn.cli.property_prediction import property_prediction
from onnx_ghn.errors import OptionError


def leaves(group: click.Command, *names: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """All commands by their names."""
    if not isinstance(group, click.Group):
        yield names, group
        return
    for name, inner in group.commands.items():
        yield from leaves(inner, *names, name)


COMMANDS = dict([*leaves(cli), *leaves(property_prediction, "property-prediction")])


@click.command(cls=Command)
@click.option("-b", "--batch-size", type=int, default=1)
@click.option("--keep-all/--no-keep-all", default=False)
@click.option("-C", "--ghn", "ckpt", cls=Option, aliases=["--ckpt", "-n"])
@click.argument("rest", nargs=-1)
def tool(batch_size: int, keep_all: bool, ckpt: str | None, rest: tuple[str, ...]) -> None:
    if batch_size < 0:
        raise OptionError("`batch_size` must not be negative; see `ckpt`, `onnx-ghn` and `other`")
    click.echo(f"{batch_size} {keep_all} {ckpt} {rest}")


def said(*arguments: str) -> str:
    return CliRunner().invoke(tool, arguments).output.strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_listed_is_kebab_case(name):
    for option in COMMANDS[name].params:
        assert isinstance(option, click.Argument) or not any("_" in text for text in option.opts), option.opts
    assert isinstance(COMMANDS[name], Command)


@pytest.mark.parametrize("name", COMMANDS)
def test_n_is_weight_norm_or_not_listed(name):
    listed = {text: option.name for option in COMMANDS[name].params for text in option.opts}
    assert listed.get("-n", "weight_norm") == "weight_norm"
    assert "--ckpt" not in listed
    assert listed.get("-C", "ckpt") in ("ckpt", "ghn")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--batch-size", "3"], "3 False None ()"),
        (["--batch_size", "3"], "3 False None ()"),
        (["--batch_size=3", "--keep_all"], "3 True None ()"),
        (["--keep_all", "--no_keep_all"], "1 False None ()"),
        (["--ckpt", "--keep_all"], "1 False --keep_all ()"),
        (["-nx", "--ghn", "y", "--ckpt=z"], "1 False z ()"),
        (["--", "--batch_size"], "1 False None ('--batch_size',)"),
    ],
)
def test_spellings(arguments, expected):
    assert said(*arguments) == expected


def test_what_is_accepted_only_is_not_listed():
    shown = said("--help")
    assert "-C, --ghn" in shown
    assert not {"--ckpt", "--batch_size", "-n,"} & set(shown.split())


def test_a_misspelt_option_is_told_in_the_listed_spelling():
    for text in ("--batch-sice", "--batch_sice"):
        meant = said(text, "3").partition("Did you mean")[2]
        assert "--batch-size" in meant
        assert "_" not in meant


def test_errors_speak_of_options():
    error = CliRunner().invoke(tool, ["-b", "-1"]).exception
    assert isinstance(error, OptionError)
    assert str(error) == "--batch-size must not be negative; see --ghn, `onnx-ghn` and `other`"


def test_groups_make_such_commands():
    @click.group(cls=Group)
    def outer() -> None: ...

    @outer.group()
    def inner() -> None: ...

    @inner.command()
    @click.option("--some-name")
    def leaf(some_name: str) -> None:
        click.echo(some_name)

    assert CliRunner().invoke(outer, ["inner", "leaf", "--some_name", "x"]).output == "x\n"


def test_published_command_lines():
    """As PPUDA's README has them; --help ends them before anything is done."""
    line = "train -d cifar10 -D ./data --data_dir ./data --meta_batch_size 8 -n -v 50 --virtual_edges 50 --ln --amp"
    assert command(*line.split(), "--help").code == 0
    line = "train-net --arch DARTS -d imagenet --drop_path_prob 0.2 --cutout_length 8 --n_shots 100 --ckpt x.pt"
    assert command(*line.split(), "--help").code == 0
    assert command("eval", "--batch_size", "64", "-n", "100", "--ckpt", "x.pt", "--help").code == 0
    assert command("train", "--n", "--help").code == 2


@pytest.mark.parametrize("text", ["1x3x32x32", "1,3,32,32", "1×3×32×32"])
def test_shapes_have_one_notation(text):
    assert shape(text) == (1, 3, 32, 32)
    assert named_shapes(f"a:b:{text}") == ("a:b", ((1, 3, 32, 32),))
    assert named_shapes(text) == ("", ((1, 3, 32, 32),))


def test_several_shapes_and_sizes():
    assert named_shapes("ids:1x16,2x8") == ("ids", ((1, 16), (2, 8)))
    assert named_sizes("past + 1=0,12") == ("past + 1", (0, 12))


@pytest.mark.parametrize("name", ["export", "profile"])
def test_a_text_that_is_no_shape(name):
    one_line(
        command(name, "torch:x.py:f", *(["-o", "x.onnx"] if name == "export" else []), "--shape", "1xa"),
        "--shape",
        "is no shape",
    )
