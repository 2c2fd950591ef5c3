"""What exporters, file tools, trainers and runtimes do with a file, and what we read in it: docs/compatibility.md.

    python benchmarks/compat.py --group tools --out compat.jsonl     # measure a group; its environment has to be there
    python benchmarks/compat.py --out compat.jsonl --table           # what is measured so far, as Markdown

`make compat` makes the environments, measures every group, compares the cells with those that are expected
(benchmarks/compatibility_runs/expected.json), says which are worse and which are better, and rewrites the table.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import click
from compatibility_runs.cells import Result
from compatibility_runs.expectations import changes, read_expected, write_expected
from compatibility_runs.preparing import prepare
from compatibility_runs.rows import GROUPS, rows_of
from compatibility_runs.running_rows import run_row
from compatibility_runs.tables import rewrite_page, table

_ROOT = Path(__file__).resolve().parents[1]


@click.command()
@click.option("--group", "groups", multiple=True, type=click.Choice([*GROUPS, "all"]), help="What to measure.")
@click.option("--only", help="Rows whose key contains this.")
@click.option("--resume", is_flag=True, help="Leave out what the file of results has already.")
@click.option("--out", required=True, type=click.Path(dir_okay=False, path_type=Path), help="Lines of results.")
@click.option(
    "--environments",
    default=".venv-compat-",
    show_default=True,
    help="What stands before the names of the groups' environments.",
)
@click.option("--table", "show", is_flag=True, help="Print the table of what the file holds.")
@click.option(
    "--page",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Rewrite the table between the marks of this page.",
)
@click.option(
    "--check",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Compare with these expected cells; the exit status is 1 where one is worse.",
)
@click.option(
    "--accept", type=click.Path(dir_okay=False, path_type=Path), help="Write what the file holds as the expected cells."
)
def main(
    groups: tuple[str, ...],
    only: str | None,
    resume: bool,
    out: Path,
    environments: str,
    show: bool,
    page: Path | None,
    check: Path | None,
    accept: Path | None,
) -> None:
    """Measure groups, and say what changed."""
    wanted = GROUPS if "all" in groups else groups
    rows = [row for row in rows_of(wanted) if only is None or only in row.key]
    done = {(result.row, result.network) for result in _results(out)} if resume else set()
    left = {row: [name for name in row.networks if (row.key, name) not in done] for row in rows}
    if any(left.values()):
        with tempfile.TemporaryDirectory(prefix="onnx-ghn-compat-") as folder:
            prepared = Path(folder)
            prepare(prepared, dict.fromkeys(n for row in rows if row.kind != "exporters" for n in left[row]))
            for row, networks in left.items():
                for result in run_row(row, networks, environments, prepared):
                    _append(out, result)
                    cells = ", ".join(f"{c} {cell.grade} {cell.text}".strip() for c, cell in result.cells.items())
                    click.echo(f"{row.key} {result.network}: {cells}")
    results = _results(out)
    if show:
        click.echo(table(results))
    if page is not None:
        rewrite_page(page, results)
    if accept is not None:
        write_expected(accept, results)
    if check is not None:
        worse, other = changes(read_expected(check), results)
        for line in other:
            click.echo(line)
        for line in worse:
            click.echo(f"worse: {line}", err=True)
        sys.exit(1 if worse else 0)


def _append(path: Path, result: Result) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result.to_dict()) + "\n")


def _results(path: Path) -> list[Result]:
    """The last line of each row and network."""
    if not path.exists():
        return []
    lines = (Result.from_dict(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines() if line)
    return list({(result.row, result.network): result for result in lines}.values())


if __name__ == "__main__":
    main()
