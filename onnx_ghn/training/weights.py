"""Weights for a network before training: a GHN's prediction, or the standard random initialisation."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from onnx_ghn.deepnets1m import Architecture, symbolic_graph
from onnx_ghn.errors import RuntimeFailure
from onnx_ghn.ghn import GHN
from onnx_ghn.prediction.options import PredictOptions
from onnx_ghn.prediction.postprocess import separate_copies
from onnx_ghn.torch_export import distinct_weights, module_to_onnx

__all__ = ["kaiming_", "load_tensors", "perturb_", "predict_architecture", "predict_module", "predict_net"]


@torch.no_grad()
def predict_architecture(
    ghn: GHN, architecture: Architecture, num_classes: int, *, large_images: bool = False
) -> dict[str, Tensor]:
    """The tensors of a DeepNets-1M network by parameter name; those that lead nowhere are left out.

    Raises:
        GraphError: a network without output.
    """
    graph = symbolic_graph(architecture, num_classes, large_images=large_images)
    (predicted,) = ghn([graph])
    return {graph.parameters[index].name: tensor.contiguous() for index, tensor in predicted.items()}


def predict_module(ghn: GHN, module: nn.Module, image_size: int) -> dict[str, Tensor]:
    """The tensors of any torch classifier of images by parameter name, from its ONNX graph.

    Raises:
        GraphError: torch cannot export the module.
    """
    from onnx_ghn.prediction.predicting import predict

    with distinct_weights(module):
        model = module_to_onnx(module, (torch.zeros(2, 3, image_size, image_size),))
    # As the published systems predict.
    bare = PredictOptions(
        policy="all", calibrate="none", overwrite_special=True, tell_apart=False, correct_scales=False
    )
    prediction = predict(model, ghn=ghn, options=bare)
    names = {name for name, _ in module.named_parameters()}
    return {name: torch.from_numpy(prediction[name].copy()) for name in prediction if name in names}


@torch.no_grad()
def load_tensors(module: nn.Module, tensors: Mapping[str, Tensor]) -> list[str]:
    """Copy tensors into a module's parameters; the names of those that are left as they were.

    Raises:
        RuntimeFailure: a tensor of another shape, or without a parameter.
    """
    parameters = dict(module.named_parameters())
    for name, tensor in tensors.items():
        if name not in parameters or parameters[name].shape != tensor.shape:
            raise RuntimeFailure(f"no parameter {name} of shape {tuple(tensor.shape)} in {type(module).__name__}")
        parameters[name].copy_(tensor)
    return [name for name in parameters if name not in tensors]


@torch.no_grad()
def kaiming_(module: nn.Module, seed: int) -> nn.Module:
    """He et al.'s normal initialisation of all weights (fan-in, ReLU), zero shifts, scales of one; in place."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            fan_in = math.prod(parameter.shape[1:])
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * math.sqrt(2 / fan_in))
        elif name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.fill_(1)
    return module


def predict_net(
    ghn: GHN, net: Architecture | str, module: nn.Module, num_classes: int, image_size: int
) -> dict[str, Tensor]:
    """The tensors of a network by parameter name (`nets.Choice.net` and its module).

    A GHN for other classes says nothing of these: the last layer is then left out, as published.

    Raises:
        GraphError: a network without output, or that torch cannot export.
    """
    if isinstance(net, Architecture):
        tensors = predict_architecture(ghn, net, num_classes, large_images=image_size > 64)
    else:
        tensors = predict_module(ghn, module, image_size)
    if not ghn.config.knows_classes(num_classes):
        last = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)][-1]
        tensors = {name: t for name, t in tensors.items() if not name.startswith(f"{last}.")}
    return tensors


@torch.no_grad()
def perturb_(module: nn.Module, post: str, strength: float, seed: int) -> nn.Module:
    """`postprocess.separate_copies` on all weights (not on vectors), in place."""
    for name, parameter in module.named_parameters():
        if parameter.dim() > 1:
            parameter.copy_(torch.from_numpy(separate_copies(parameter.cpu().numpy(), name, post, strength, seed)))
    return module
