"""Every error that onnx-ghn raises on purpose. The message is one line: what, where, remedy."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "DataError",
    "GraphError",
    "ModelReadError",
    "ModelWriteError",
    "OnnxGhnError",
    "OptionError",
    "RuntimeFailure",
    "counted",
    "did_you_mean",
    "printable",
]

_LONGEST_WORD, _LONGEST_TEXT = 600, 3000  # characters; a path has 4096 at most and rarely two hundred


def printable(text: str) -> str:
    """A text that holds names from foreign files, as a terminal shows it: without the characters that it would obey,
    and without the middle of what is longer than anybody reads.
    """
    text = _cut(text, _LONGEST_TEXT)
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def counted(number: int, thing: str, things: str | None = None) -> str:
    """So many of a thing: "1 step", "2,000 steps".

    Args:
        things: the plural, where it is not the thing with an s.
    """
    return f"{number:,} {thing if number == 1 else things or f'{thing}s'}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence on a name that is not known: the known one that is most like it, if any is like it."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    return f"{text[: 2 * longest // 3]}…{text[-(longest // 3) :]}"


class OnnxGhnError(Exception):
    """Root of the errors that a caller may want to catch; the command line prints it and exits 1."""

    def __init__(self, message: str) -> None:
        # One line whatever the cause was: messages of other libraries carry several, and names in a file megabytes.
        super().__init__(printable(" ".join(_cut(word, _LONGEST_WORD) for word in message.split())))


class ModelReadError(OnnxGhnError):
    """A model file that cannot be read, is damaged, or asks for something unsafe."""


class ModelWriteError(OnnxGhnError):
    """A target that cannot be written; nothing was changed."""


class GraphError(OnnxGhnError):
    """A model whose computational graph cannot be built (a cycle, a missing value, no parameters)."""


class CheckpointError(OnnxGhnError):
    """A GHN checkpoint that is absent, damaged, or of another configuration."""


class DataError(OnnxGhnError):
    """A data set (images, architectures) that is absent, damaged, or not what it should be."""


class OptionError(OnnxGhnError):
    """An option whose value makes no sense, alone or with the others."""


class RuntimeFailure(OnnxGhnError):
    """onnxruntime could not run the model (calibration, evaluation)."""
