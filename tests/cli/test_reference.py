"""docs/cli.md is what the commands say."""

from __future__ import annotations

from pathlib import Path

import click

from onnx_ghn.cli import cli
from onnx_ghn.cli.reference import reference

PAGE = Path(__file__).resolve().parents[2] / "docs" / "cli.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text("utf-8") == reference(), "run: python -m onnx_ghn.cli.reference > docs/cli.md"


def test_every_command_and_option_is_in_it():
    page = reference()
    for name, command in cli.commands.items():
        leaves = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for inner, leaf in leaves:
            section = page.split(f"\n## onnx-ghn {name} {inner}".rstrip() + "\n")[1].split("\n## ")[0]
            for option in leaf.params:
                assert isinstance(option, click.Argument) or option.hidden or option.opts[-1] in section
