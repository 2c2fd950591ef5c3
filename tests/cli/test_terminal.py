"""Progress on stderr: a bar and a spinner where that is a terminal, nothing elsewhere."""

from __future__ import annotations

import os
import pty
import select
import sys

import pytest

from onnx_ghn.cli.terminal import bar, spinner


def test_nothing_is_shown_where_there_is_no_terminal(capsys):
    with bar("work", 3) as shown, spinner("more work"):
        shown(1)
        shown.show(2, 5, "other work")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("keep", [False, True])
def test_a_bar_on_a_terminal(monkeypatch, keep):
    ours, theirs = pty.openpty()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with bar("[x] work", 7, 2, keep=keep) as shown:
            shown()
            shown(2)
            shown.show(6, text="other work")
            shown.show(6, 8)
        terminal.flush()
        told = b""
        while select.select([ours], [], [], 0)[0]:  # a terminal gives what it has in pieces
            told += os.read(ours, 1 << 16)
        told = told.decode()
    os.close(ours)
    assert "[x] work" in told
    assert "other work" in told
    assert "6/8" in told
