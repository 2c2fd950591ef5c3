"""torchvision networks for 32 × 32 images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models

from onnx_ghn.vision import adjust_to_small_images


def sizes_before_the_head(net: nn.Module, layer: nn.Module, side: int = 32) -> int:
    """Height of what goes into a layer. Nets on the meta device have shapes only, which is enough here."""
    seen = []
    layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[2]))
    with torch.no_grad():
        net.eval()(torch.zeros(1, 3, side, side, device=next(net.parameters()).device))
    return seen[0]


def test_resnet():
    torch.manual_seed(0)
    net = models.resnet18(num_classes=10)
    before = net.conv1.weight.detach().clone()
    assert adjust_to_small_images(net) is net
    assert tuple(net.conv1.weight.shape) == (64, 3, 3, 3)
    assert torch.equal(net.conv1.weight, before[:, :, 2:5, 2:5])
    assert net.conv1.weight.requires_grad
    assert (net.conv1.stride, net.conv1.padding, net.conv1.kernel_size) == ((1, 1), (1, 1), (3, 3))
    assert sizes_before_the_head(net, net.avgpool) == 4


def test_densenet():
    with torch.device("meta"):
        net = adjust_to_small_images(models.densenet121(num_classes=10))
    assert tuple(net.features.conv0.weight.shape) == (64, 3, 3, 3)
    assert sizes_before_the_head(net, net.features.norm5) == 4


@pytest.mark.parametrize(
    ("name", "side", "where"),
    [
        ("wide_resnet50_2", 4, lambda net: net.avgpool),
        ("mobilenet_v2", 8, lambda net: net.features[-1]),
        ("mobilenet_v3_small", 16, lambda net: net.features[-1]),
        ("vgg16", 4, lambda net: net.avgpool),
        ("mnasnet0_5", 2, lambda net: net.layers[-1]),
        ("shufflenet_v2_x0_5", 2, lambda net: net.conv5),
        ("googlenet", 2, lambda net: net.avgpool),
        ("convnext_tiny", 3, lambda net: net.avgpool),
        ("efficientnet_b0", 2, lambda net: net.features[-1]),
        ("regnet_y_400mf", 2, lambda net: net.avgpool),
        ("alexnet", 5, lambda net: net.avgpool),
    ],
)
def test_others(name, side, where):
    extra = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    with torch.device("cpu" if name.startswith("regnet") else "meta"):  # RegNet computes its widths with tensors
        net = getattr(models, name)(num_classes=10, **extra)
    parameters = {key: value.shape for key, value in net.named_parameters() if key != "conv1.weight"}
    adjust_to_small_images(net)
    assert {key: value.shape for key, value in net.named_parameters() if key != "conv1.weight"} == parameters
    assert sizes_before_the_head(net, where(net)) == side


def test_networks_without_such_a_form(caplog: pytest.LogCaptureFixture):
    net = models.squeezenet1_1(num_classes=10)
    strides = [layer.stride for layer in net.modules() if hasattr(layer, "stride")]
    adjust_to_small_images(net)
    assert "SqueezeNet has no form for small images" in caplog.text
    assert [layer.stride for layer in net.modules() if hasattr(layer, "stride")] == strides
