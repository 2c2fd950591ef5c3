"""What the published GHNs (PPUDA, GHN-3) call their tensors, and what their shapes tell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn.config import GHNConfig

__all__ = ["infer_config", "renamed"]

_Array = TypeVar("_Array")

# The structure embeddings of GHN-3: released files hold them at the top, the published code then moves them.
_MOVED = ("centrality_embed_in", "centrality_embed_out", "input_dist_embed")


def renamed(tensors: Mapping[str, _Array]) -> dict[str, _Array]:
    """Tensors under `GHN`'s names: without `module.` of a DDP wrapper, structure embeddings in gnn.0."""
    out: dict[str, _Array] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix("module.")
        out["gnn.0." + name if name.split(".")[0] in _MOVED else name] = tensor
    return out


def infer_config(shapes: Mapping[str, tuple[int, ...]]) -> GHNConfig:
    """The configuration of a published GHN from its tensors' shapes, for files that carry none.

    What no shape shows is set as in SamsungSAILMontreal/ghn3, ghn3/nn.py, `from_pretrained`: virtual edges
    and normalisation are on, except in a GHN-1 (a gated network without mlp_ve).

    Raises:
        CheckpointError: tensors that a GHN has are absent, or of impossible shapes.
    """
    try:
        hid = shapes["embed.weight"][1]
        side = math.isqrt(shapes["decoder.fc.0.weight"][0] // (4 * hid))
        predictor = shapes["decoder.class_layer_predictor.1.weight"]
        n_out = predictor[1]
        n_in = shapes["decoder.conv.2.weight"][0] // n_out
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise CheckpointError(
            "no config, and the tensors are not those of a GHN with the convolutional decoder; add its config"
        ) from error
    common: dict[str, Any] = {
        "max_shape": (n_out, n_in, side, side),
        "num_classes": predictor[0],
        "hid": hid,
        "layernorm": "ln.weight" in shapes,
        "trained": True,
    }
    if any(name.startswith("gnn.0.attn.") for name in shapes):
        try:
            heads = shapes["gnn.0.attn.proj_e.2.weight"][0]
        except (KeyError, IndexError) as error:
            raise CheckpointError("gnn.0.attn.proj_e.2.weight absent or a number: not a published GHN-3") from error
        layers = sum(name.startswith("gnn.") and name.endswith(".ln1.weight") for name in shapes)
        return GHNConfig(
            **common, hypernet="graphormer", heads=heads, layers=layers,
            kernel_slice="centre", kernel_overflow="interpolate", graph_rules="ghn3",
        )  # fmt: skip
    gated = any(name.startswith("gnn.gru.") for name in shapes)
    ve = not gated or any(name.startswith("gnn.mlp_ve.") for name in shapes)
    # Two-axis decoder weights are the mark of a GHN-2 trained with GHN-3's code.
    of_ghn3_code = len(predictor) == 2
    return GHNConfig(
        **common,
        hypernet="gatedgnn" if gated else "mlp",
        ve=ve,
        weight_norm=ve,
        kernel_overflow="interpolate" if of_ghn3_code else "tile",
        graph_rules="ghn3" if of_ghn3_code else "ppuda",
    )
