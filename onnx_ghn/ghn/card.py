"""The model card of a GHN for the hub, with its header in YAML."""

from __future__ import annotations

from onnx_ghn.ghn.config import GHNConfig

__all__ = ["card"]

_KINDS = {"gatedgnn": "GHN-1 or GHN-2 (gated graph network)", "graphormer": "GHN-3 (Graphormer)", "mlp": "MLP"}


def card(config: GHNConfig, n_weights: int) -> str:
    """A README.md for a folder or a repository: what it is, what it was trained on, how it is used.

    Args:
        n_weights: how many numbers the GHN has.
    """
    name = config.name or "a GHN"
    listed = "".join(f"- {name}\n" for name in config.dataset.split(", ") if name)
    datasets = f"datasets:\n{listed}" if listed else ""
    trained = f"trained on {config.dataset}" if config.dataset else "of unknown training"
    return f"""---
library_name: onnx-ghn
tags:
- graph-hypernetwork
- parameter-prediction
- onnx
{datasets}---

# {name}

A graph hypernetwork, {trained}: it predicts the weights of networks from their computational graphs.

| property | value |
|---|---|
| kind | {_KINDS[config.hypernet]}, {config.hid} hidden units, {n_weights:,} weights |
| classes | {config.num_classes} |
| largest decoded tensor | {" × ".join(map(str, config.max_shape))} |
| graph rules | `{config.graph_rules}` |

    pip install 'onnx-ghn[cpu,hub]'
    onnx-ghn predict model.onnx --ghn hf://OWNER/NAME -o init.onnx
"""
