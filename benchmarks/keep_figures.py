"""Hold the figures on the pages to what the benchmarks wrote.

    python benchmarks/keep_figures.py            # does every table on every page say what its results say?
    python benchmarks/keep_figures.py --write    # make them say it
    python benchmarks/keep_figures.py --stale    # which were measured before something that they depend on changed?

Results lie in benchmarks/results, where sources.toml names the command, data, machine and date of each. A table stands
between `<!-- figures: NAME -->` and `<!-- end of figures -->`, and is made anew from them.
"""

from __future__ import annotations

import functools

import click
from figures.pages import PAGES, names_in, rewritten
from figures.sources import ROOT, changed_since, sources
from figures.tables import TABLES


@functools.cache
def made(name: str) -> str:
    """The table of a name."""
    if name not in TABLES:
        raise click.ClickException(f"there is no table {name!r}: {', '.join(TABLES)}")
    return TABLES[name]()


@click.command()
@click.option("--write", is_flag=True, help="Rewrite the pages.")
@click.option("--stale", is_flag=True, help="List what was measured before its inputs changed.")
def main(write: bool, stale: bool) -> None:
    """Compare, rewrite, or list."""
    if stale:
        for name, source in sources().items():
            try:
                changed = changed_since(source)
            except LookupError as error:
                raise click.ClickException(str(error)) from error
            kept = "" if source.file else "; what it printed is on the page alone"
            told = f"changed since: {', '.join(changed)}" if changed else "nothing has changed since"
            click.echo(
                f"{name} ({', '.join(source.pages)}): measured {source.measured} at {source.revision}{kept}; {told}"
            )
        return
    wrong = []
    for page in PAGES:
        if not names_in(page):
            continue
        text = page.read_text(encoding="utf-8")
        new = rewritten(text, made)
        if new != text:
            wrong.append(str(page.relative_to(ROOT)))
            if write:
                page.write_text(new, encoding="utf-8")
    if write:
        click.echo(f"rewritten: {', '.join(wrong) or 'nothing'}")
    elif wrong:
        raise click.ClickException(f"figures differ from benchmarks/results in {', '.join(wrong)}: use --write")
    else:
        click.echo("every table says what benchmarks/results says")


if __name__ == "__main__":
    main()
