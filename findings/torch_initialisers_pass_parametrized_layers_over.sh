#!/usr/bin/env bash
# torch 2.14.1: initialisers do nothing to a layer with a parametrization (weight_norm, spectral_norm, orthogonal), without an error.
#
# `layer.weight` of such a layer is computed at each access. torch.nn.init.* fills that tensor in place, which nobody reads again; so
# does what `model.apply(init)` runs over a network, and `layer.reset_parameters()`, which calls it. The layer keeps what it had
# when it was parametrized, beside layers that are initialised. The older torch.nn.utils.weight_norm does the same in another way: its
# hook overwrites `weight` at the next forward pass. Remedy: assign (layer.weight = values, which asks the parametrization to
# invert itself), or initialise before the layer is parametrized.
#
# Seen on 2026-11-29, Python 3.11, Linux x86_64:
#   kaiming_normal_: plain True, weight_norm False, spectral_norm False, orthogonal False, older weight_norm False
#   reset_parameters: plain True, weight_norm False, spectral_norm False, orthogonal False, older weight_norm False
#   assigned: plain True, weight_norm True, spectral_norm True, orthogonal True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet torch==2.14.1 numpy==2.3.5
cat > "$folder/initialisers.py" <<'PYTHON'
import torch
from torch import nn
from torch.nn.utils import parametrizations

KINDS = {
    "plain": lambda layer: layer,
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "older weight_norm": nn.utils.weight_norm,
}
x = torch.eye(16)


def changes(kind, act):
    """Whether what the layer computes is another after an action."""
    torch.manual_seed(0)
    layer = KINDS[kind](nn.Linear(16, 16, bias=False)).eval()
    with torch.no_grad():
        before = layer(x)
        act(layer)
        return not torch.allclose(before, layer(x))


def assigned(kind):
    values = nn.init.orthogonal_(torch.empty(16, 16))

    def act(layer):
        layer.weight = nn.Parameter(values) if kind == "plain" else values

    return changes(kind, act)


seen = {}
for what, act in (
    ("kaiming_normal_", lambda layer: nn.init.kaiming_normal_(layer.weight)),
    ("reset_parameters", lambda layer: layer.reset_parameters()),
):
    seen[what] = {kind: changes(kind, act) for kind in KINDS}
seen["assigned"] = {kind: assigned(kind) for kind in list(KINDS)[:4]}
for what, found in seen.items():
    print(f"{what}: {', '.join(f'{kind} {value}' for kind, value in found.items())}")
assert seen["kaiming_normal_"] == {kind: kind == "plain" for kind in KINDS}
assert seen["reset_parameters"] == {kind: kind == "plain" for kind in KINDS}
assert all(seen["assigned"].values())
PYTHON
(cd "$folder" && venv/bin/python -W ignore initialisers.py)
