"""Models to rewrite are those of the reading tests."""

import sys
from pathlib import Path

_reading = str(Path(__file__).resolve().parents[1] / "onnx_io")
if _reading not in sys.path:
    sys.path.insert(0, _reading)
