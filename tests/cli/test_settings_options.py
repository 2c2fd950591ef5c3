"""Options that a command makes of the settings that it takes, and what it gets."""

from __future__ import annotations

import dataclasses
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from onnx_ghn.cli.commands import Command
from onnx_ghn.settings import Settings, ghn_setting, required, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class Net(Settings):
    dataset: str = setting("cifar10", "Images.", "-d")
    kind: Literal["a", "b"] = setting("a", "A kind.")
    sides: tuple[int, ...] = setting((8,), "Sides.", form="numbers", metavar="N,…")
    names: tuple[str, ...] = setting((), "Names.", metavar="NAME", option="--name")
    size: int = setting(32, "A size.", choices=(32, 224), imagenet=224)
    ckpt: str | None = ghn_setting("A GHN", check="")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run(Settings):
    save_dir: str = required("A folder.", "-S")
    lr: float = setting(0.1, "A rate.", above=0)
    steps: int = setting(5, "Steps.", least=1)
    amp: bool = setting(False, "Half.")
    draw: bool = setting(True, "Draw.")
    labels: bool | None = setting(None, "Labels.")
    parts: bool = setting(True, "No parts.", option="--no-parts")


got: list[object] = []


@click.command(cls=Command)
@click.argument("model")
def single(
    model: str,
    share: float = setting(0.5, "A share.", "-x", below=1),
    sets: tuple[tuple[str, object], ...] = setting((), "A value.", option="--set", form="assignment"),
    shapes: tuple[tuple[int, ...], ...] = setting((), "A shape.", option="--shape", form="shape"),
) -> None:
    """Take single settings."""
    got[:] = [model, share, sets, shapes]


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True)
@click.argument("model")
def tool(model: str, run: Run, as_json: bool, net: Net) -> None:
    """Take settings."""
    got[:] = [model, run, as_json, net]


def ran(*arguments: str) -> list[object]:
    outcome = CliRunner().invoke(tool, ["m", "-S", "s", *arguments], catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    return list(got)


def test_a_command_gets_instances() -> None:
    assert ran() == ["m", Run(save_dir="s"), False, Net()]
    given = "--save_dir t --lr 2 --steps 7 --amp --no-draw --no-labels --no-parts --json -d x --kind b --sides 1,3"
    run = Run(save_dir="t", lr=2.0, steps=7, amp=True, draw=False, labels=False, parts=False)
    net = Net(dataset="x", kind="b", sides=(1, 3), names=("p", "q"), size=224, ckpt="g")
    assert ran(*given.split(), "--name", "p", "--name", "q", "--size", "224", "--ckpt", "g") == ["m", run, True, net]
    assert ran("--labels")[1] == Run(save_dir="s", labels=True)


def test_defaults_are_those_of_the_data_set() -> None:
    assert ran("-d", "imagenet")[3] == Net(dataset="imagenet", size=224)
    assert ran("-d", "imagenet", "--size", "32")[3] == Net(dataset="imagenet")


def test_the_help_says_what_the_settings_say() -> None:
    options = {option.opts[-1]: option for option in tool.params if isinstance(option, click.Option)}
    assert [name for name in options if name != "--json"][:3] == ["--save-dir", "--lr", "--steps"]
    assert list(options).index("--json") == 7  # the order is that of the function's parameters
    with click.Context(tool) as context:
        records = dict(filter(None, (param.get_help_record(context) for param in tool.params)))
    assert records["-S, --save-dir TEXT"] == "A folder.  [required]"
    assert records["--lr FLOAT"] == "A rate.  [default: 0.1]"
    assert records["--steps INTEGER RANGE"] == "Steps.  [default: 5; x>=1]"
    assert records["--amp"] == "Half."
    assert records["--draw / --no-draw"] == "Draw.  [default: draw]"
    assert records["--labels / --no-labels"] == "Labels."
    assert records["--no-parts"] == "No parts."
    assert records["--kind [a|b]"] == "A kind.  [default: a]"
    assert records["--size [32|224]"] == "A size."
    assert records["--sides N,…"] == "Sides."


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-S", "s", "--steps", "0"], "--steps"),
        (["-S", "s", "--kind", "c"], "--kind"),
        (["-S", "s", "--size", "33"], "--size"),
        ([], "--save-dir"),
    ],
)
def test_usage_errors_name_the_option(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(tool, ["m", *arguments])
    assert outcome.exit_code == 2
    assert message in outcome.output


def test_bounds_of_the_settings_speak_of_options() -> None:
    outcome = CliRunner().invoke(tool, ["m", "-S", "s", "--lr", "-1"])
    assert str(outcome.exception) == "--lr -1.0 must be more than 0"


def test_a_parameter_may_be_a_setting() -> None:
    assert CliRunner().invoke(single, ["m"]).exit_code == 0
    assert got == ["m", 0.5, (), ()]
    arguments = ["m", "-x", "0.25", "--set", "a=1", "--set", "b=x=y", "--shape", "1x2"]
    assert CliRunner().invoke(single, arguments).exit_code == 0
    assert got == ["m", 0.25, (("a", 1), ("b", "x=y")), ((1, 2),)]
    assert str(CliRunner().invoke(single, ["m", "-x", "1"]).exception) == "--share 1.0 must be less than 1"
    assert CliRunner().invoke(single, ["m", "--set", "1=2"]).exit_code == 2
