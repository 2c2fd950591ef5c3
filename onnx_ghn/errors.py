"""Every error that onnx-ghn raises on purpose. The message is one line: what, where, remedy."""

from __future__ import annotations

__all__ = [
    "CheckpointError",
    "DataError",
    "GraphError",
    "ModelReadError",
    "ModelWriteError",
    "OnnxGhnError",
    "OptionError",
    "RuntimeFailure",
    "printable",
]


def printable(text: str) -> str:
    """A text that holds names from foreign files, without the characters that a terminal would obey."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class OnnxGhnError(Exception):
    """Root of the errors that a caller may want to catch; the command line prints it and exits 1."""

    def __init__(self, message: str) -> None:
        # One line whatever the cause was: messages of other libraries often carry several.
        super().__init__(printable(" ".join(message.split())))


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
