"""Measure properties of networks, and fit and judge predictors of them."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.property_prediction import property_prediction

if __name__ == "__main__":
    run_command(property_prediction)
