#!/usr/bin/env bash
# Orbax 0.11.36 with Flax 0.12.8: a checkpoint of an nnx module comes back with text where the module has numbers, and nnx.update refuses it.
#
# nnx.List knows its items by number. flax.serialization.msgpack_serialize keeps the numbers, but to_bytes of the same tree, and Orbax's
# PyTreeCheckpointer, name them by text, so that what was saved from a state cannot be put back by nnx.update: KeyError, invalid key.
# nnx.restore_int_paths goes between. A module without an nnx.List shows nothing of it.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64:
#   msgpack_serialize keeps: int; to_bytes: str; Orbax: str
#   nnx.update with text: KeyError
#   after restore_int_paths: equal
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet orbax-checkpoint==0.11.36 flax==0.12.8 jax==0.10.2 jaxlib==0.10.2 numpy==2.4.6
cat > "$folder/list.py" <<'PYTHON'
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint
from flax import nnx, serialization


class Net(nnx.Module):
    def __init__(self, seed):
        self.layers = nnx.List([nnx.Linear(2, 2, rngs=nnx.Rngs(seed))])


def kind(tree):
    return type(next(iter(tree["layers"]))).__name__


net, other = Net(0), Net(1)
tree = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(net)))
path = Path("net.orbax").resolve()
orbax.checkpoint.PyTreeCheckpointer().save(path, tree)
saved = orbax.checkpoint.PyTreeCheckpointer().restore(path)
packed = serialization.msgpack_restore(serialization.msgpack_serialize(tree))
in_bytes = serialization.msgpack_restore(serialization.to_bytes(tree))
print(f"msgpack_serialize keeps: {kind(packed)}; to_bytes: {kind(in_bytes)}; Orbax: {kind(saved)}")
try:
    nnx.update(other, saved)
    told = "nothing"
except KeyError as error:
    told = type(error).__name__
print("nnx.update with text:", told)
nnx.update(other, nnx.restore_int_paths(saved))
same = np.array_equal(other.layers[0].kernel[...], net.layers[0].kernel[...])
print("after restore_int_paths:", "equal" if same else "different")
assert (kind(packed), kind(in_bytes), kind(saved), told, same) == ("int", "str", "str", "KeyError", True), "it changed"
PYTHON
(cd "$folder" && venv/bin/python list.py 2> /dev/null)
