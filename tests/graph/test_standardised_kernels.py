"""Kernels that a batch norm in its training form standardises, as timm's StdConv2d does."""

from __future__ import annotations

import numpy as np
from graph_models import Net, everywhere, roles, run


def test_a_kernel_that_a_batch_norm_standardises_is_one_weight() -> None:
    """As torch's first exporter folds it: statistics that nothing asks for are those of a copy of the kernel."""
    net = Net()
    w, gain = net.weight(1, 8, 36), net.weight(8, name="gain")
    copy = net.weight(1, 36, 8, name="copy")
    mean = net.op("ReduceMean", copy, axes=[0, 1], keepdims=0)
    variance = net.op("ReduceMean", net.op("Mul", copy, copy), axes=[0, 1], keepdims=0)
    shift = net.weight(8, name="shift", array=np.zeros(8, np.float32))
    standard, *_ = net.op("BatchNormalization", w, gain, shift, mean, variance, n=3, training_mode=1)
    kernel = net.op("Reshape", standard, net.number([8, 4, 3, 3], np.int64))
    model = net.model(net.op("Conv", net.input(1, 4, 8, 8), kernel))
    run(model, x=net.array(1, 4, 8, 8))
    assert everywhere(model) == ["conv"]
    assert roles(model) == {"w": "weight", "gain": "norm_scale", "shift": "norm_bias"}
