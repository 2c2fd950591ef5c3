"""`onnx-ghn report`: one self-contained HTML page about a model."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from onnx_ghn.cli import options as cli_options
from onnx_ghn.cli.checks import check_output
from onnx_ghn.cli.commands import Command
from onnx_ghn.cli.terminal import spinner, tell
from onnx_ghn.prediction.options import PolicyName
from onnx_ghn.settings import Settings, ghn_setting, setting

if TYPE_CHECKING:
    from onnx_ghn.profiling import ProfileReport

__all__ = ["report"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Content(Settings):
    predict: bool = setting(
        True, "Show graph and coverage only: no GHN, no distributions of weights.", option="--no-predict"
    )
    policy: PolicyName = setting("auto", "Which parameters are predicted; see `predict`.")
    donors: Sequence[str] = setting(
        (),
        "A trained ONNX file of any architecture to inherit weights from, as of `predict`; may be given several times.",
        option="--from",
        metavar="DONOR.onnx",
        check="file",
    )
    profile: bool = setting(False, "Run MODEL through onnxruntime and show its speed, too.")
    seconds: float = setting(3.0, "How long --profile measures.", above=0, below=math.inf)
    threads: int | None = setting(None, "Threads that --profile uses (default: all cores).", least=1)
    batch: int | None = setting(None, "Batch size of --profile (default: as the file says).", least=1)
    seed: int = setting(0, "Random seed.", least=0)


@click.command(cls=Command, short_help="Write a page about MODEL: graph, coverage, weights, speed.")
@cli_options.model
def report(
    model: str,
    content: _Content,
    output: str = cli_options.output("Where to write the page, an .html file."),
    ghn: str | None = ghn_setting("The GHN that predicts"),
    force: bool = cli_options.force(),
    as_json: bool = cli_options.as_json("what the page shows"),
) -> None:
    """Write a page about MODEL: its graph, coverage, predicted weights, speed. It opens anywhere, without a network."""
    check_output(output, [".html", ".htm"], "a page", force, [model, ghn, *content.donors])
    from onnx_ghn.report.writing import check_donors, report_data, write_page

    check_donors(content.donors, predict=content.predict)  # before anything is measured
    profile = None
    if content.profile:
        with spinner(f"measuring {model}"):
            profile = _measure(model, content)
    with spinner(f"reporting on {model}"):
        data = report_data(
            model,
            ghn=ghn,
            predict=content.predict,
            policy=content.policy,
            donors=content.donors,
            profile=profile,
            seed=content.seed,
        )
        path = write_page(data, output, force=force)
    if as_json:
        click.echo(json.dumps(data, indent=2))
        return
    graph = data["graph"]
    size_bytes = os.path.getsize(path)
    tell(f"{path}: {len(graph['nodes']['x']):,} nodes, {graph['n_edges']:,} edges, {size_bytes:,} bytes")


def _measure(model: str, content: _Content) -> ProfileReport:
    from onnx_ghn.profiling import profile
    from onnx_ghn.profiling import settings as profiling

    return profile(
        model,
        batch=() if content.batch is None else (content.batch,),
        threads=() if content.threads is None else (content.threads,),
        settings=profiling.Settings(seconds=content.seconds, seed=content.seed),
    )
