"""Every code block of the README and of docs/: Python is executed, commands are run, and print what the page says.

A block that cannot run here says why in a comment before it; its commands are still held to exist and to take their
options, its Python to compile, as is every command in the running text.
"""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from blocks import Block, Command, blocks
from cli_tools import command

from onnx_ghn.cli import cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Is a notebook: test_docs_walkthrough.py runs all of it.
NOTEBOOK = ROOT / "docs/walkthrough.md"
BLOCKS = [block for page in PAGES for block in blocks(page)]
#: Commands that measure or train: run by the slow tests.
COSTLY = {"profile", "finetune", "train", "train-net", "train-detector", "eval", "nas", "properties"}
PYTHON = [block for block in BLOCKS if block.python]
SHELL = [block for block in BLOCKS if block.commands]


def subcommand(line: Command) -> str:
    return line.words[1] if line.words[0] == "onnx-ghn" and len(line.words) > 1 else ""


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where the pages' commands find the examples, and `model.onnx`, which stands for any model."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/examples").symlink_to(ROOT / "data/examples")
    shutil.copy(ROOT / "data/examples/resnet18_cifar10.onnx", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_are_blocks() -> None:
    assert len(PYTHON) >= 4
    assert len(SHELL) >= 10
    ran = [line for block in SHELL for line in block.commands if block.runs(subcommand(line)) and subcommand(line)]
    assert len(ran) >= 8
    for block in BLOCKS:
        for _, reason in block.marks:
            assert len(reason) > 8, f"{block}: say why it is not run"


@pytest.mark.parametrize("block", [b for b in PYTHON if b.page != NOTEBOOK], ids=str)
def test_python_runs(block: Block, workplace: Path) -> None:
    compiled = compile(block.python, str(block), "exec")
    if block.runs():
        exec(compiled, {"__name__": "__main__"})


@pytest.mark.parametrize("block", SHELL, ids=str)
def test_commands_exist_and_take_their_options(block: Block) -> None:
    for line in block.commands:
        check(line, str(block))


@pytest.mark.parametrize("block", [b for b in SHELL if b.page != NOTEBOOK], ids=str)
def test_commands_run_and_print_what_the_page_says(block: Block, workplace: Path) -> None:
    for line in block.commands:
        if subcommand(line) and subcommand(line) not in COSTLY and block.runs(subcommand(line)):
            run(line, str(block))


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in SHELL if b.page != NOTEBOOK], ids=str)
def test_costly_commands_run(block: Block, workplace: Path) -> None:
    for line in block.commands:
        if subcommand(line) and block.runs(subcommand(line)):
            run(line, str(block), exactly=subcommand(line) not in COSTLY)  # a speed is never the same twice


def test_commands_in_the_text_exist() -> None:
    for page in PAGES:
        text = re.sub(r"^(```.*?^```|    .*?$)", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for found in re.findall(r"`onnx-ghn ([^`]+)`", text):
            words = found.split()
            for name in words[0].split("\\|")[0].split("|"):
                assert name in cli.commands or name.startswith("-"), f"{page.name}: onnx-ghn {found}"
            known = options(cli.commands[words[0]]) if words[0] in cli.commands else set()
            for word in words[1:]:
                if word.startswith("--"):
                    assert word.split("=")[0] in known, f"{page.name}: onnx-ghn {found}: no option {word}"


def options(of: click.Command) -> set[str]:
    found = {name for parameter in of.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    if isinstance(of, click.Group):
        for inner in of.commands.values():
            found |= options(inner)
    return found


def run(line: Command, where: str, exactly: bool = True) -> None:
    """Run a command of ours; where the page shows what it prints, that is what it prints."""
    outcome = command(*line.words[1:])
    # Whether a machine keeps to a limit of time is its own affair, and code 3 says that it does not.
    codes = {0, 3} if any(word.startswith("--fail-") for word in line.words) else {0}
    assert outcome.code in codes, f"{where}: {line.line}: {outcome.err}"
    if " > " in line.line:
        Path(line.line.rsplit(" > ", 1)[1].strip()).write_text(outcome.out, encoding="utf-8")
    if exactly and line.output.strip():
        shown, printed = (" ".join(re.sub(r"─+", "─", text).split()) for text in (line.output, outcome.out))
        assert shown == printed, f"{where}: {line.line}"


def check(line: Command, where: str) -> None:
    """The command exists, and takes the options that it is given."""
    words = line.words
    match words[0]:
        case "onnx-ghn":
            named: click.Command = cli
            rest = words[1:]
            while isinstance(named, click.Group) and rest:
                assert rest[0] in named.commands, f"{where}: {line.line}: no command {rest[0]!r}"
                named, rest = named.commands[rest[0]], rest[1:]
            try:
                # Below its group, whose settings it takes: click keeps the help option that it makes here.
                named.make_context(words[1], rest, parent=click.Context(cli, **cli.context_settings))
            except click.UsageError as error:
                pytest.fail(f"{where}: {line.line}: {error.format_message()}")
        case "make":
            targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.M)
            assert words[1] in targets, f"{where}: {line.line}"
        case "pip":
            for extra in re.findall(r"\[([\w,-]+)\]", line.line):
                known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
                assert set(extra.split(",")) <= set(known), f"{where}: {line.line}"
        case "python" | "torchrun":
            script = next(ROOT / word for word in words if word.endswith(".py"))
            assert script.is_file(), f"{where}: {line.line}"
            given = [
                word.split("=")[0] for word in words[words.index(str(script.relative_to(ROOT))) :] if word[:2] == "--"
            ]
            if given:
                shown = help_of(script, *subgroup(words, script))
                for option in given:
                    assert re.search(rf"{option}\b", shown), f"{where}: {line.line}: no option {option}"
        case "git":
            pass
        case other:
            pytest.fail(f"{where}: {line.line}: what is {other}?")


@functools.cache
def help_of(script: Path, *subcommand: str) -> str:
    """What `--help` of a script prints; pages name some scripts more than once."""
    arguments = [sys.executable, script, *subcommand, "--help"]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


def subgroup(words: list[str], script: Path) -> list[str]:
    """The subcommand of a script, where it has any."""
    after = words[words.index(str(script.relative_to(ROOT))) + 1 :]
    return after[:1] if after and re.fullmatch(r"[a-z][a-z-]*", after[0]) else []
