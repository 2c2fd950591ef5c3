#!/usr/bin/env bash
# onnx-ir 1.1.0 with sympy 1.14.0: importing it imports the whole of sympy, for symbolic sizes that most programs never compute with.
#
# onnx-ir makes the expressions of a symbolic size only when they are asked for, but a table of five functions (Max, Min, floor, sqrt,
# Mod) is looked up in sympy while onnx_ir is imported, so that lazy loading of sympy (importlib.util.LazyLoader) does not help either.
# Until 0.1.16 there was no such dependency. Reading, changing and writing a model with a symbolic batch computes with none of it.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64:
#   modules of sympy imported by `import onnx_ir`: 419
#   calls of sympy while a model with a symbolic batch is read, copied and written: 0
#   share of the import's time: 0.92 (0.7 once bytecode is there)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnx-ir==1.1.0 sympy==1.14.0 onnx==1.23.2 numpy==2.4.6
cat > "$folder/import.py" <<'PYTHON'
import re
import subprocess
import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import sympy
from onnx import TensorProto, helper

n_modules = sum(name.partition(".")[0] == "sympy" for name in sys.modules)
print("modules of sympy imported by `import onnx_ir`:", n_modules)

graph = helper.make_graph(
    [helper.make_node("Relu", ["x"], ["y"])],
    "g",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "m.onnx")
calls = []
home = str(Path(sympy.__file__).parent)
sys.setprofile(lambda frame, event, argument: calls.append(1) if frame.f_code.co_filename.startswith(home) else None)
model = ir.load("m.onnx").clone()
ir.save(model, "copy.onnx")
sys.setprofile(None)
print("calls of sympy while a model with a symbolic batch is read, copied and written:", len(calls))

told = subprocess.run([sys.executable, "-X", "importtime", "-c", "import numpy, onnx, onnx_ir"], capture_output=True, text=True)
total = {m[2]: int(m[1]) for m in re.finditer(r"\| +(\d+) \| +([\w.]+)", told.stderr)}
share = total["sympy"] / total["onnx_ir"]
print(f"share of the import's time: {share:.2f}")
assert n_modules > 100, "sympy is imported no more"
assert not calls, "sympy is used now"
assert share > 0.4, "it costs little now"
PYTHON
(cd "$folder" && venv/bin/python import.py)
