"""Search architectures by predicted properties: the same as `onnx-ghn nas`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.nas import nas

if __name__ == "__main__":
    run_command(nas)
