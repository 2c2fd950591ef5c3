#!/usr/bin/env bash
# PaddlePaddle 3.3.1: paddle.jit.save of a layer with weight_norm or spectral_norm writes the weight of the last call.
#
# Both are hooks that compute the weight before each call, of weight_g and weight_v. While a program is made for saving, they compute
# nothing that the program reads: it holds the tensor that was computed last, as a constant. Whoever loads a state or sets the
# weights, and saves without a call in between, writes a model that computes with the old weights, and nothing is said; so does
# paddle.onnx.export, which begins with the same step. The saved program has no weight_g and no weight_v either, so that it cannot
# be trained on. Remedy: call the layer once before it is saved.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64, where the norm was multiplied by 10, and the spectral norm by 2, before saving:
#   weight_norm: saved at once 0.100 of the live layer's output, after a call 1.000
#   spectral_norm: saved at once 2.000 of the live layer's output, after a call 1.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet paddlepaddle==3.3.1 numpy==2.4.6 setuptools
(cd "$folder" && venv/bin/python -W ignore - 2>"$folder/log" <<'PYTHON'
import numpy as np
import paddle

x = paddle.ones([1, 4])


def saved(layer: paddle.nn.Layer, name: str) -> float:
    paddle.jit.save(layer, name, [paddle.static.InputSpec([1, 4], "float32")])
    return round(paddle.jit.load(name)(x).item(), 6)


def measured(kind: str) -> tuple[float, float, float]:
    """Of the layer itself, of what it saves at once, and of what it saves after a call."""
    layer = paddle.nn.Linear(4, 1, bias_attr=False)
    layer.weight.set_value(np.full((4, 1), 0.25, "float32"))
    if kind == "weight_norm":
        normed = paddle.nn.utils.weight_norm(layer, dim=None)
        normed.eval()
        normed(x)
        normed.weight_g.set_value(normed.weight_g * 10)
        first = saved(normed, f"{kind}_before")
    else:
        normed = paddle.nn.utils.spectral_norm(layer)
        normed.eval()
        normed(x)
        state = {name: value.clone() for name, value in normed.state_dict().items()}
        state["weight_u"] = state["weight_u"] * 2  # sigma is u · W · v
        normed.set_state_dict(state)
        first = saved(normed, f"{kind}_before")
    live = round(normed(x).item(), 6)
    return live, first, saved(normed, f"{kind}_after")


for kind, expected in (("weight_norm", 0.1), ("spectral_norm", 2.0)):
    live, first, second = measured(kind)
    print(f"{kind}: saved at once {first / live:.3f} of the live layer's output, after a call {second / live:.3f}")
    assert abs(second / live - 1) < 1e-3, (live, second)
    assert abs(first / live - expected) < 1e-3, (live, first)
PYTHON
) || { tail -n 5 "$folder/log" >&2; exit 1; }
