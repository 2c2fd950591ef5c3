"""Train one network from predicted, random or pretrained weights: the same as `onnx-ghn train-net`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.train_net import train_net

if __name__ == "__main__":
    run_command(train_net)
