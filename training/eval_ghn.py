"""Evaluate networks that a GHN fills, or an ONNX file: the same as `onnx-ghn eval`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.eval_ghn import eval_ghn

if __name__ == "__main__":
    run_command(eval_ghn)
