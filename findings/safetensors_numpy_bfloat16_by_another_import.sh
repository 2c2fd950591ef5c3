#!/usr/bin/env bash
# safetensors 0.8.0 with numpy 2.3.5: whether bfloat16 is read as numpy depends on another package having been imported, and float8
# ends in an AttributeError of numpy.
#
# safe_open(framework="np") asks numpy for a type named "bfloat16". numpy has none, so the tensor of a file that was written from
# torch cannot be read (TypeError) until ml_dtypes, which registers the name, has been imported by whomever: the same program works or
# not by what else is in the process. The metadata (get_slice(...).get_dtype()) can always be read. Of float8, numpy is asked for an
# attribute that it does not have, ml_dtypes or not.
#
# Seen on 2026-11-27, Python 3.11, Linux x86_64:
#   bfloat16 alone: TypeError: data type 'bfloat16' not understood
#   bfloat16 after import ml_dtypes: [1.0, 2.5]
#   float8 after import ml_dtypes: AttributeError: module 'numpy' has no attribute 'float8_e4m3fn'
#   its type by the metadata: F8_E4M3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet safetensors==0.8.0 numpy==2.3.5 ml_dtypes==0.5.4
cat > "$folder/read.py" <<'PYTHON'
import json
import struct

from safetensors import safe_open


def write(path: str, dtype: str, data: bytes, shape: list[int]) -> None:
    """A file of one tensor, by the format's own description: length of the header, header, data."""
    header = json.dumps({"x": {"dtype": dtype, "shape": shape, "data_offsets": [0, len(data)]}}).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(header)) + header + data)


def told(path: str) -> str:
    try:
        with safe_open(path, framework="np") as file:
            return str(file.get_tensor("x").tolist())
    except Exception as error:  # whatever it is, it is what is shown
        return f"{type(error).__name__}: {error}"


write("bf16.safetensors", "BF16", bytes.fromhex("803f2040"), [2])  # 1.0 and 2.5, little endian
write("f8.safetensors", "F8_E4M3", bytes([0x38, 0x40]), [2])  # 1.0 and 2.0
alone = told("bf16.safetensors")
print("bfloat16 alone:", alone)
import ml_dtypes  # noqa: E402, F401

after, eighth = told("bf16.safetensors"), told("f8.safetensors")
print("bfloat16 after import ml_dtypes:", after)
print("float8 after import ml_dtypes:", eighth)
with safe_open("f8.safetensors", framework="np") as file:
    kind = file.get_slice("x").get_dtype()
print("its type by the metadata:", kind)
assert alone.startswith("TypeError"), "bfloat16 is now read without help"
assert after == "[1.0, 2.5]"
assert eighth.startswith("AttributeError"), "float8 is now read, or refused in words"
assert kind == "F8_E4M3"
PYTHON
(cd "$folder" && venv/bin/python read.py)
