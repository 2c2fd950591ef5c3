"""Train a detector of persons on a backbone: the same as `onnx-ghn train-detector`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.train_detector import train_detector

if __name__ == "__main__":
    run_command(train_detector)
