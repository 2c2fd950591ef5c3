"""The command line: one module a command, each a few lines that call the library; heavy imports happen inside."""

from onnx_ghn.cli.group import cli, main
from onnx_ghn.cli.running import run_command

__all__ = ["cli", "main", "run_command"]
