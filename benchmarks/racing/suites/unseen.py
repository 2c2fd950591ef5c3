"""Networks of timm that no rule of a policy was fitted on, as they are published: they judge it.

Families that the other suites lack: convolutions with attention between them, norm-free nets, pooling or gates in the
place of attention, parallel branches that are folded after training.
"""

from __future__ import annotations

import functools

from racing.entrant import ATTENTION, TWO_D, Entrant
from racing.nets import packages
from racing.suites.small import Listed, entrants_of

__all__ = ["entrants"]

_HYBRIDS = ("mobilevit_xxs", "edgenext_xx_small", "efficientformerv2_s0", "levit_128s", "pvt_v2_b0", "visformer_tiny")
_CONVOLUTIONAL = (
    "ghostnet_050",
    "mobilenetv4_conv_small",
    "cs3darknet_s",
    "inception_next_atto",
    "hgnetv2_b0",
    "repvgg_a0",
    "efficientvit_b0",
    "nf_regnet_b0",
    "convnextv2_atto",
    "poolformer_s12",
    "mambaout_femto",
)
_ADAPTIVE = ("convnextv2_atto", "inception_next_atto", "poolformer_s12", "mambaout_femto")


def entrants() -> list[Entrant]:
    """17 networks, on Imagenette at 64 × 64."""
    listed: list[Listed] = [
        (
            f"{name} of timm",
            ATTENTION if name in _HYBRIDS else TWO_D,
            "imagenette-64",
            "adamw" if name in (*_HYBRIDS, *_ADAPTIVE) else "sgd",
            200,
            functools.partial(packages.timm_net, name, 10, 64),
        )
        for name in (*_HYBRIDS, *_CONVOLUTIONAL)
    ]
    return entrants_of("unseen", listed)
