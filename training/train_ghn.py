"""Train a GHN on architectures drawn on the fly: the same as `onnx-ghn train`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.train_ghn import train_ghn

if __name__ == "__main__":
    run_command(train_ghn)
