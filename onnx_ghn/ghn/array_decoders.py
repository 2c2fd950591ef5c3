"""From node embeddings to tensors on arrays: what `decoders` and `dirac` do for tensors of torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_ghn.ghn.array_layers import Floats, Weights, linear, matrix, relu
from onnx_ghn.ghn.config import GHNConfig
from onnx_ghn.ghn.kernel_spans import kernel_span
from onnx_ghn.ghn.sizes import DIRAC_SHIFT, n_dirac_shifts

__all__ = ["decoded", "decoded_classes", "identity"]


def decoded(weights: Weights, config: GHNConfig, x: Floats, out: int, in_: int, kernel: tuple[int, int]) -> Floats:
    """(n, hid) embeddings -> (n, out, in_, kh, kw): the first channels of kernels of one size.

    Args:
        out, in_, kernel: sizes, none above max_shape's.
    """
    rows, columns = (kernel_span(size, config.max_shape[2], config.kernel_slice) for size in kernel)
    if config.decoder == "mlp":
        hidden = relu(linear(weights, "decoder.mlp.fc.0", x))
        part = weights["decoder.mlp.fc.2.weight"].reshape(*config.max_shape, -1)[:out, :in_, rows, columns]
        bias = weights["decoder.mlp.fc.2.bias"].reshape(config.max_shape)[:out, :in_, rows, columns]
        values: Floats = hidden @ part.reshape(-1, part.shape[-1]).T + bias.reshape(-1)
        return values.reshape(len(x), out, in_, *kernel)
    n, (kh, kw), (n_out, n_in, side, _) = len(x), kernel, config.max_shape
    # Positions first, so that what follows is one product over (n * positions) rows.
    part = weights["decoder.fc.0.weight"].reshape(-1, side, side, config.hid)[:, rows, columns].transpose(1, 2, 0, 3)
    bias = weights["decoder.fc.0.bias"].reshape(-1, side, side)[:, rows, columns].transpose(1, 2, 0)
    h = relu(x @ part.reshape(-1, config.hid).T + bias.reshape(-1))  # (n, kh * kw * 4 hid)
    h = relu(linear(weights, "decoder.conv.0", h.reshape(n * kh * kw, -1)))
    # (max out * max in, 8 hid) -> (out * in_, 8 hid)
    last = matrix(weights, "decoder.conv.2").reshape(n_out, n_in, -1)[:out, :in_].reshape(out * in_, -1)
    values = h @ last.T  # (n * kh * kw, out * in_)
    values += weights["decoder.conv.2.bias"].reshape(n_out, n_in)[:out, :in_].reshape(-1)
    if kh * kw > 1:
        values = np.ascontiguousarray(values.reshape(n, kh * kw, -1).transpose(0, 2, 1))
    return values.reshape(n, out, in_, kh, kw)


def decoded_classes(weights: Weights, config: GHNConfig, x: Floats, in_: int) -> Floats:
    """(n, hid) embeddings of classification layers -> (n, num_classes, in_), in_ at most max_shape's."""
    name, n_out = "decoder.class_layer_predictor.1", config.max_shape[0]
    if config.decoder == "mlp":
        values = linear(weights, name, relu(linear(weights, "decoder.mlp.fc.0", x)))
        return values.reshape(len(x), config.num_classes, n_out)[:, :, :in_]
    square = decoded(weights, config, x, n_out, in_, (1, 1))[..., 0, 0]  # (n, out, in_)
    return linear(weights, name, relu(square).transpose(0, 2, 1)).transpose(0, 2, 1)


def identity(
    weights: Weights, config: GHNConfig, x: Floats, out: int, in_: int, repeats: Sequence[float], *, grouped: bool
) -> Floats:
    """(n, hid) embeddings -> (n, out, in_): the multiples of identity matrices that `DiracHead` decodes.

    Args:
        repeats: how often each target repeats the decoded inputs.
        grouped: whether the inputs are those of one of several groups.
    """
    a = linear(weights, "dirac.scale", x) / np.array(repeats, np.float32)[:, None]  # (n, shifts + 1)
    rows, columns = np.arange(out)[:, None], np.arange(in_)
    if grouped or in_ == 1:
        found: Floats = a[:, -1, None, None] * ((columns - rows) % in_ == 0).astype(np.float32)
        return found
    max_in = config.max_shape[1]
    shift, rest = np.divmod((columns - rows) % max_in, DIRAC_SHIFT)  # (out, in_)
    known = (rest == 0) & (shift < n_dirac_shifts(max_in))
    values: Floats = np.where(known, a[:, np.where(known, shift, 0)], np.float32(0))
    return values
