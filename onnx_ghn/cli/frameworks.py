"""A framework at work in a command: its own messages are kept for `--debug`, and its errors speak of options."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO

import click

from onnx_ghn.cli.terminal import spinner
from onnx_ghn.errors import OnnxGhnError

__all__ = ["building", "framework_at_work"]

#: How little frameworks are to say of themselves; set before they are imported, and where the user has set nothing.
_LEVELS = {"TF_CPP_MIN_LOG_LEVEL": "3", "GLOG_minloglevel": "2"}
_LOGGERS = ("absl", "jax", "jax2onnx", "paddle", "tensorflow", "tf2onnx", "torch", "transformers")
_BACKENDS = ("tensorflow", "jax", "torch")  # of Keras, in the order of its own preference
_SHAPE = "--shape (such as --shape 1x3x224x224), or let the function return its example inputs beside the model"


@contextlib.contextmanager
def framework_at_work() -> Iterator[None]:
    """Context of a command's work with a framework.

    What the framework and its exporter print is left out, but with --debug. An error that asks for `example_inputs`
    asks for --shape.
    """
    _choose_backend()
    try:
        if _debugs():
            yield
        else:
            os.environ.update({name: value for name, value in _LEVELS.items() if name not in os.environ})
            with _quiet():
                yield
    except OnnxGhnError as error:
        error.args = (str(error).replace("`example_inputs`", _SHAPE),)
        raise


@contextlib.contextmanager
def building(target: str) -> Iterator[None]:
    """The first step of that work, in which the user's own code runs; it prints on stderr, as stdout is for results."""
    with contextlib.redirect_stdout(sys.stderr), spinner(f"building {target}"):
        yield


def _debugs() -> bool:
    settings = click.get_current_context().find_root().obj
    return isinstance(settings, dict) and bool(settings.get("debug"))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from onnx_ghn.exporters.output import captured, quiet

    with contextlib.ExitStack() as stack:
        if _is_standard_error(sys.stderr):
            own = os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
            stack.callback(own.close)
            stack.enter_context(contextlib.redirect_stderr(own))
        for name in _LOGGERS:
            stack.enter_context(quiet(name))
        stack.enter_context(captured())
        yield


def _is_standard_error(stream: TextIO) -> bool:
    """Whether a stream writes to the process's own, which a framework's compiled part writes to as well."""
    try:
        return stream.fileno() == 2
    except (OSError, ValueError, AttributeError):  # a stand-in, in a test or a notebook
        return False


def _choose_backend() -> None:
    """Let Keras take a backend that is installed, where the one that it would take is not.

    Keras notes its first backend, TensorFlow, in keras.json when it is first imported, be it installed or not.
    """
    if "KERAS_BACKEND" in os.environ:
        return
    folder = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    try:
        with open(os.path.join(folder, "keras.json"), encoding="utf-8") as file:
            noted = json.load(file)["backend"]
    except (OSError, ValueError, KeyError, TypeError):  # as Keras does
        noted = _BACKENDS[0]
    installed = [name for name in _BACKENDS if importlib.util.find_spec(name) is not None]
    if noted in _BACKENDS and noted not in installed and installed:
        os.environ["KERAS_BACKEND"] = installed[0]
