"""The split `predefined`: networks that people designed or other searches found.

Facts from facebookresearch/ppuda: ppuda/deepnets1m/loader.py (`_get_predefined`: ResNet-50 and ViT), and
experiments/sgd/train_net.py with ppuda/config.py (sizes of DARTS and P-DARTS).
"""

from __future__ import annotations

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.deepnets1m.genotypes import DARTS, PDARTS, VIT

__all__ = ["predefined"]


def predefined(*, large_images: bool = False) -> list[tuple[str, Architecture | str]]:
    """(name, architecture) of each; a string instead is the name of a torchvision network."""
    n_cells, channels = (14, 48) if large_images else (20, 36)
    cells = {"DARTS": DARTS, "PDARTS": PDARTS}
    return [
        ("ResNet-50", "resnet50"),
        ("ViT", Architecture(VIT, n_cells=12, C=128, preproc=False, C_mult=1, glob_avg=True)),
        *((name, Architecture(genotype, n_cells, C=channels, stem_type=1)) for name, genotype in cells.items()),
    ]
