#!/usr/bin/env bash
# Ultralytics 8.4.190: the names of classes in an exported ONNX file are the text of a Python dictionary, which is no JSON, and classes
# that nobody named get their numbers as names.
#
# Whoever compares two files by the names of their classes finds a model of ten nameless classes to share "all" of them with one of a
# thousand, and a reader of JSON finds none. The other entries of the metadata (imgsz, args) are Python's text, too.
#
# Seen on 2026-11-28, Python 3.11, torch 2.14.1 for CPUs and GPUs, onnx 1.19.1, Linux x86_64:
#   names: {0: '0', 1: '1', 2: '2', ...
#   as JSON: JSONDecodeError
#   ten classes of a network made for ten: ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet ultralytics==8.4.190 onnx==1.19.1 torch==2.14.1 torchvision==0.29.1
cat > "$folder/names.py" <<'PYTHON'
import ast
import json

import onnx
from ultralytics import YOLO

for classes in (1000, 10):
    text = open("net.yaml", "w")
    text.write(f"nc: {classes}\nbackbone:\n- [-1, 1, Conv, [64, 3, 2]]\nhead:\n- [-1, 1, Classify, [nc]]\n")
    text.close()
    path = YOLO("net.yaml", task="classify").export(format="onnx", imgsz=32, simplify=False, verbose=False)
    names = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["names"]
    if classes == 1000:
        print("names:", names[:24], "...")
        try:
            json.loads(names)
            told = "fine"
        except json.JSONDecodeError as error:
            told = type(error).__name__
        print("as JSON:", told)
listed = list(ast.literal_eval(names).values())
print("ten classes of a network made for ten:", listed)
assert (told, listed) == ("JSONDecodeError", [str(i) for i in range(10)]), "it changed"
PYTHON
(cd "$folder" && YOLO_OFFLINE=true YOLO_CONFIG_DIR="$folder" venv/bin/python names.py 2> /dev/null | grep -E "^(names|as JSON|ten classes)")
