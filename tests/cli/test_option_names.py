"""Library messages name arguments in backticks; the commands know them by the same names, to say them as options."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click
import pytest
from cli_tools import command

from onnx_ghn.cli import cli
from onnx_ghn.cli.commands import Command, Group
from onnx_ghn.prediction import PredictOptions
from onnx_ghn.profiling.settings import Settings

EXAMPLES = Path(__file__).resolve().parents[2] / "data" / "examples"


def commands(group: click.Group, path: str = "") -> list[tuple[str, click.Command]]:
    found: list[tuple[str, click.Command]] = []
    for name, one in group.commands.items():
        found += commands(one, f"{name} ") if isinstance(one, click.Group) else [(path + name, one)]
    return found


@pytest.mark.parametrize(("name", "command"), commands(cli), ids=lambda value: value if isinstance(value, str) else "")
def test_each_command_speaks_of_options(name: str, command: click.Command) -> None:
    assert isinstance(command, Command)
    listed = [
        option for parameter in command.params if isinstance(parameter, click.Option) for option in parameter.opts
    ]
    assert [option for option in listed if option.startswith("--") and "_" in option] == []


@pytest.mark.parametrize(("name", "command"), commands(cli), ids=lambda value: value if isinstance(value, str) else "")
def test_each_option_is_there_once(name: str, command: click.Command) -> None:
    spellings = [text for parameter in command.params for text in (*parameter.opts, *parameter.secondary_opts)]
    for names in (spellings, [parameter.name for parameter in command.params]):
        assert len(set(names)) == len(names)


def test_groups() -> None:
    assert all(isinstance(group, Group) for group in cli.commands.values() if isinstance(group, click.Group))


@pytest.mark.parametrize(
    ("command", "settings", "without"),
    [("predict", PredictOptions, set()), ("profile", Settings, {"operators"})],
    ids=["predict", "profile"],
)
def test_settings_have_the_names_of_options(command: str, settings: type, without: set[str]) -> None:
    fields = {field.name for field in dataclasses.fields(settings)} - without
    assert fields <= {parameter.name for parameter in cli.commands[command].params}


@pytest.mark.parametrize(
    "given",
    [["--calibrate", "none.zip"], ["--data", "none.zip"], ["--data", "none.zip", "--budget", "9"]],
    ids=" ".join,
)
def test_inputs_that_are_absent_are_told_by_the_option_that_named_them(given: list[str], tmp_path: Path) -> None:
    outcome = command("predict", EXAMPLES / "resnet18_cifar10.onnx", "-o", tmp_path / "x.onnx", *given)
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {given[0]} none.zip: no such folder or zip archive")
    assert not list(tmp_path.iterdir())
