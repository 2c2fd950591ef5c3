"""The tensors of a GHN: their published names and shapes, as its config has them."""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.shape_indices import ShapeIndices
from onnx_ghn.ghn.sizes import MAX_DEGREE, MAX_INPUT_DISTANCE, N_EDGE_EMBEDDINGS, N_PRIMITIVES, n_dirac_shifts

__all__ = ["weight_shapes"]

_Named = Iterator[tuple[str, tuple[int, ...]]]


def weight_shapes(config: GHNConfig) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor by its name, in the order in which they are stored."""
    hid, channels = config.hid, max(config.max_shape[:2])
    indices = ShapeIndices(config.num_classes, config.max_shape[3])
    found: dict[str, tuple[int, ...]] = {
        "embed.weight": (N_PRIMITIVES, hid),
        "shape_enc.embed_spatial.weight": (indices.n_kernel_rows, hid // 4),
        "shape_enc.embed_channel.weight": (indices.n_channel_rows, hid // 4),
    }
    passing = {"gatedgnn": _gated, "mlp": _plain, "graphormer": _graphormer}[config.hypernet]
    found.update(passing(config))
    if config.layernorm:
        found.update(_norm("ln", hid))
    found.update(_conv_decoder(config) if config.decoder == "conv" else _mlp_decoder(config))
    if config.dirac:
        found.update(_linear("dirac.scale", hid, n_dirac_shifts(config.max_shape[1]) + 1))
    found.update(_mlp("decoder_1d", hid, (2 * hid, 2 * channels)))
    found.update(_linear("bias_class.1", channels, config.num_classes))
    return found


def _linear(name: str, n_in: int, n_out: int) -> _Named:
    yield f"{name}.weight", (n_out, n_in)
    yield f"{name}.bias", (n_out,)


def _norm(name: str, hid: int) -> _Named:
    yield f"{name}.weight", (hid,)
    yield f"{name}.bias", (hid,)


def _mlp(name: str, n_in: int, widths: tuple[int, ...]) -> _Named:
    for place, n_out in enumerate(widths):
        yield from _linear(f"{name}.fc.{2 * place}", n_in, n_out)
        n_in = n_out


def _plain(config: GHNConfig) -> _Named:
    yield from _mlp("gnn", config.hid, (config.hid, config.hid))


def _gated(config: GHNConfig) -> _Named:
    hid = config.hid
    yield from _mlp("gnn.mlp", hid, (hid // 2 if config.ve else hid, hid))
    if config.ve:
        yield from _mlp("gnn.mlp_ve", hid, (hid // 2, hid))
    for kind, shape in (("weight", (3 * hid, hid)), ("bias", (3 * hid,))):
        yield f"gnn.gru.{kind}_ih", shape
        yield f"gnn.gru.{kind}_hh", shape


def _graphormer(config: GHNConfig) -> _Named:
    hid = config.hid
    for number in range(config.layers):
        layer = f"gnn.{number}"
        yield from _norm(f"{layer}.ln1", hid)
        yield f"{layer}.attn.to_qkv.weight", (3 * hid, hid)
        yield from _linear(f"{layer}.attn.to_out.0", hid, hid)
        if not number:
            yield f"{layer}.attn.edge_embed.embed.weight", (N_EDGE_EMBEDDINGS, hid)
            yield from _linear(f"{layer}.attn.proj_e.0", 2 * hid, hid)
            yield from _linear(f"{layer}.attn.proj_e.2", hid, config.heads)
        yield from _norm(f"{layer}.ln2", hid)
        yield from _linear(f"{layer}.ff.net.0", hid, 4 * hid)
        yield from _linear(f"{layer}.ff.net.3", 4 * hid, hid)
        if not number:
            yield f"{layer}.centrality_embed_in.weight", (MAX_DEGREE + 1, hid)
            yield f"{layer}.centrality_embed_out.weight", (MAX_DEGREE + 1, hid)
            yield f"{layer}.input_dist_embed.weight", (MAX_INPUT_DISTANCE + 1, hid)


def _conv_decoder(config: GHNConfig) -> _Named:
    hid = config.hid
    n_out, n_in, side, _ = config.max_shape
    yield from _linear("decoder.fc.0", hid, 4 * hid * side * side)
    # PPUDA stores pointwise layers as convolutions, (out, in, 1, 1).
    axes = () if config.hypernet == "graphormer" else (1, 1)
    for place, before, after in (
        ("conv.0", 4 * hid, 8 * hid),
        ("conv.2", 8 * hid, n_out * n_in),
        ("class_layer_predictor.1", n_out, config.num_classes),
    ):
        yield f"decoder.{place}.weight", (after, before, *axes)
        yield f"decoder.{place}.bias", (after,)


def _mlp_decoder(config: GHNConfig) -> _Named:
    hid = config.hid
    yield from _mlp("decoder.mlp", hid, (2 * hid, math.prod(config.max_shape)))
    yield from _linear("decoder.class_layer_predictor.1", 2 * hid, config.num_classes * config.max_shape[0])
