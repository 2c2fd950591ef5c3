"""torchvision networks as both of torch's exporters write them, made once a session."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from onnx_ghn.vision import adjust_to_small_images


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """exported(architecture, exporter, num_classes, image_size) -> path of the ONNX file, BatchNorm kept."""
    folder = tmp_path_factory.mktemp("exported")

    @functools.cache
    def export(name: str, exporter: str, num_classes: int, size: int) -> Path:
        torch.manual_seed(0)
        extra = {"aux_logits": False, "init_weights": False} if name in ("googlenet", "inception_v3") else {}
        net = getattr(torchvision.models, name)(num_classes=num_classes, **extra)
        if size == 32:
            net = adjust_to_small_images(net)
        net.eval()
        path = folder / f"{name}_{exporter}_{num_classes}.onnx"
        image = torch.randn(1, 3, size, size)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                torch.onnx.export(net, (image,), path, dynamo=True, optimize=False, external_data=False, verbose=False)
            else:
                torch.onnx.export(
                    net,
                    (image,),
                    path,
                    dynamo=False,
                    training=torch.onnx.TrainingMode.PRESERVE,
                    do_constant_folding=False,
                    opset_version=17,
                )
        return path

    return export
