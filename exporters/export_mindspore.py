"""Write a MindSpore cell as an ONNX file: the same as `onnx-ghn export mindspore:TARGET`."""

from onnx_ghn.cli import run_command
from onnx_ghn.cli.export_front import export_front

if __name__ == "__main__":
    run_command(export_front("mindspore"))
