"""`python -m onnx_ghn`."""

from onnx_ghn.cli import main

main()
