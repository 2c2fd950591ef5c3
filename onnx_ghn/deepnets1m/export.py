"""An architecture's network as an ONNX file, batch norms kept, for any batch size."""

from __future__ import annotations

import os

import onnx_ir as ir

from onnx_ghn.deepnets1m.architecture import Architecture
from onnx_ghn.errors import OptionError
from onnx_ghn.onnx_io import check_target, write_model
from onnx_ghn.passes import UntieMergedTensors

__all__ = ["export_network", "network_model"]


def network_model(
    architecture: Architecture, num_classes: int = 10, *, large_images: bool = False, seed: int = 0
) -> ir.Model:
    """The network with torch's standard random weights. Input `images` (batch, 3, size, size), output `logits`."""
    import torch

    from onnx_ghn.deepnets1m.network import Network
    from onnx_ghn.torch_export import module_to_onnx

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = Network(architecture, num_classes, large_images=large_images).eval()
        image = torch.randn(2, 3, net.image_size, net.image_size)
    batch = {0: "batch"}
    proto = module_to_onnx(
        net,
        (image,),
        input_names=["images"],
        output_names=["logits"],
        dynamic_axes={"images": batch, "logits": batch},
    )
    model = ir.serde.deserialize_model(proto)
    UntieMergedTensors()(model)  # the exporter stores equal tensors once, and all scales are ones at first
    return model


def export_network(
    architecture: Architecture,
    path: str | os.PathLike[str],
    num_classes: int = 10,
    *,
    large_images: bool = False,
    seed: int = 0,
    force: bool = False,
) -> str:
    """Write an architecture's network, and return the path.

    Args:
        num_classes: of the classifier.
        large_images: 224 × 224 inputs instead of 32 × 32.
        seed: seed of the random weights.
        force: replace an existing file.

    Raises:
        OptionError: num_classes out of range.
        GraphError: a network whose output is cut off.
        ModelWriteError: the file cannot be written, or exists.
    """
    if num_classes < 1:
        raise OptionError(f"{num_classes} classes: there must be at least one")
    path = os.fspath(path)
    check_target(path, force)
    model = network_model(architecture, num_classes, large_images=large_images, seed=seed)
    write_model(model, path, force=force)
    return path
