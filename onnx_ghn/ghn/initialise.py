"""Untrained GHNs with the published initialisations."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn

from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.decoders import ConvDecoder
from onnx_ghn.ghn.network import GHN

__all__ = ["new_ghn"]


def new_ghn(kind_or_config: str | GHNConfig, seed: int = 0) -> GHN:
    """An untrained GHN. The same seed gives the same weights; torch's global random state stays as it was.

    GHN-1, GHN-2 and MLP keep torch's default initialisation. GHN-3's last decoder layers start 5 times
    smaller with zero bias, and its embeddings truncated normal with standard deviation 1/sqrt(width), among
    them the edge embeddings (SamsungSAILMontreal/ghn3, ghn3/nn.py, `GHN3.__init__`).

    Args:
        kind_or_config: ghn1, ghn2, mlp, ghn3 (`GHNConfig.preset`), or a configuration.
        seed: of every random number.

    Raises:
        CheckpointError: an unknown kind.
    """
    config = GHNConfig.preset(kind_or_config) if isinstance(kind_or_config, str) else kind_or_config
    # Only the CPU's generator is forked and seeded: manual_seed() would reach the GPUs' too.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        ghn = GHN(dataclasses.replace(config, trained=False, seed=seed))
        if config.hypernet == "graphormer":
            _as_ghn3(ghn)
    return ghn.eval()


@torch.no_grad()
def _as_ghn3(ghn: GHN) -> None:
    last = [ghn.decoder_1d.fc[-2], ghn.decoder.class_layer_predictor[-1]]
    last.append(ghn.decoder.conv[-2] if isinstance(ghn.decoder, ConvDecoder) else ghn.decoder.mlp.fc[-2])
    for layer in last:
        weight, bias = layer.parameters()
        weight.div_(5)
        bias.zero_()
    for module in ghn.modules():
        if isinstance(module, nn.Embedding):
            nn.init.trunc_normal_(module.weight, std=module.embedding_dim**-0.5)
