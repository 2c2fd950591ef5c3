"""`onnx-ghn ghns`: the GHNs that are shipped."""

from __future__ import annotations

import json

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import console

__all__ = ["ghns"]


@click.command(cls=Command)
def ghns(as_json: bool = cli_options.as_json()) -> None:
    """List the GHNs that `predict --ghn NAME` takes."""
    from onnx_ghn.ghn import list_ghns

    found = list_ghns()
    if as_json:
        rows = [
            {"name": info.name, "path": str(info.path), "description": info.description, "dataset": info.config.dataset}
            for info in found
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    if not found:
        click.echo(
            "no GHN is bundled; predict then uses an untrained GHN-2 (seed 0). --ghn takes a folder or a published .pt"
        )
        return
    from onnx_ghn.cli.narrow import print_table
    from onnx_ghn.cli.tables import ghns_table

    print_table(console(), ghns_table(found))
