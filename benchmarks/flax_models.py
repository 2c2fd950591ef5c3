"""Networks in Flax for `coverage.py`: Flax itself ships none. nnx, and two in linen."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen, nnx

from onnx_ghn.exporters.flax import LinenModel

MODELS = (
    "mlp",
    "resnet",
    "convnext",
    "mobilenet",
    "densenet",
    "unet",
    "vit",
    "mixer",
    "decoder",
    "linen_resnet",
    "linen_transformer",
)
IMAGE = ("batch", 32, 32, 3)


class Norm(nnx.Module):
    """Convolution and batch norm."""

    def __init__(self, into: int, out: int, rngs: nnx.Rngs, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        self.conv = nnx.Conv(into, out, (kernel, kernel), stride, use_bias=False, feature_group_count=groups, rngs=rngs)
        self.norm = nnx.BatchNorm(out, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(self.conv(x))


class ResNet(nnx.Module):
    """Basic blocks, with projections where the width changes."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = Norm(3, 32, rngs)
        self.blocks = nnx.List(
            [
                nnx.List(
                    [
                        Norm(into, out, rngs, stride=stride),
                        Norm(out, out, rngs),
                        Norm(into, out, rngs, kernel=1, stride=stride),
                    ]
                )
                for into, out, stride in ((32, 32, 1), (32, 64, 2), (64, 128, 2))
            ]
        )
        self.head = nnx.Linear(128, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.stem(x))
        for first, second, shortcut in self.blocks:
            x = nnx.relu(second(nnx.relu(first(x))) + shortcut(x))
        return self.head(x.mean((1, 2)))


class ConvNeXt(nnx.Module):
    """Depthwise 7 × 7, layer norm, two linear layers."""

    def __init__(self, rngs: nnx.Rngs, width: int = 48) -> None:
        self.stem = nnx.Conv(3, width, (4, 4), 4, rngs=rngs)
        self.blocks = nnx.List(
            [
                nnx.List(
                    [
                        nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs),
                        nnx.LayerNorm(width, rngs=rngs),
                        nnx.Linear(width, 4 * width, rngs=rngs),
                        nnx.Linear(4 * width, width, rngs=rngs),
                    ]
                )
                for _ in range(3)
            ]
        )
        self.norm = nnx.LayerNorm(width, rngs=rngs)
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for conv, norm, wide, narrow in self.blocks:
            x = x + narrow(nnx.gelu(wide(norm(conv(x)))))
        return self.head(self.norm(x.mean((1, 2))))


class MobileNet(nnx.Module):
    """Inverted residuals with squeeze-and-excitation."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.stem = Norm(3, 16, rngs, stride=2)
        self.wide, self.depthwise = Norm(16, 64, rngs, kernel=1), Norm(64, 64, rngs, groups=64)
        self.squeeze, self.excite = nnx.Linear(64, 16, rngs=rngs), nnx.Linear(16, 64, rngs=rngs)
        self.narrow = Norm(64, 16, rngs, kernel=1)
        self.head = nnx.Linear(16, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu6(self.stem(x))
        y = nnx.relu6(self.depthwise(nnx.relu6(self.wide(x))))
        y = y * nnx.sigmoid(self.excite(nnx.relu(self.squeeze(y.mean((1, 2), keepdims=True)))))
        return self.head((x + self.narrow(y)).mean((1, 2)))


class DenseNet(nnx.Module):
    """Concatenated features."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([Norm(16 if i == 0 else 16 + 8 * i, 8, rngs) for i in range(4)])
        self.stem = Norm(3, 16, rngs)
        self.head = nnx.Linear(48, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.stem(x)
        for layer in self.layers:
            x = jnp.concatenate([x, nnx.relu(layer(x))], -1)
        return self.head(nnx.avg_pool(x, window_shape=(4, 4), strides=(4, 4)).mean((1, 2)))


class UNet(nnx.Module):
    """Down, up by a transposed convolution, and across."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.down, self.deep = Norm(3, 16, rngs), Norm(16, 32, rngs, stride=2)
        self.up = nnx.ConvTranspose(32, 16, (2, 2), (2, 2), rngs=rngs)
        self.out = nnx.Conv(32, 4, (1, 1), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.down(x))
        return self.out(jnp.concatenate([x, self.up(nnx.relu(self.deep(x)))], -1))


class Layer(nnx.Module):
    """A transformer's layer, norms first."""

    def __init__(self, width: int, rngs: nnx.Rngs) -> None:
        self.norm1, self.norm2 = nnx.LayerNorm(width, rngs=rngs), nnx.LayerNorm(width, rngs=rngs)
        self.attention = nnx.MultiHeadAttention(4, width, decode=False, rngs=rngs)
        self.wide, self.narrow = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        x = x + self.attention(self.norm1(x), mask=mask)
        return x + self.narrow(nnx.gelu(self.wide(self.norm2(x))))


class ViT(nnx.Module):
    """Patches, a table of positions, layers, mean."""

    def __init__(self, rngs: nnx.Rngs, width: int = 64) -> None:
        self.patches = nnx.Conv(3, width, (8, 8), 8, padding="VALID", rngs=rngs)
        self.positions = nnx.Param(0.02 * jax.random.normal(rngs.params(), (1, 16, width)))
        self.layers = nnx.List([Layer(width, rngs) for _ in range(2)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patches(x)
        x = x.reshape(x.shape[0], 16, x.shape[-1]) + self.positions[...]
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean(1))


class Mixer(nnx.Module):
    """Linear layers over patches and over channels."""

    def __init__(self, rngs: nnx.Rngs, width: int = 64) -> None:
        self.patches = nnx.Conv(3, width, (8, 8), 8, padding="VALID", rngs=rngs)
        self.tokens = nnx.List([nnx.Linear(16, 32, rngs=rngs), nnx.Linear(32, 16, rngs=rngs)])
        self.channels = nnx.List([nnx.Linear(width, 128, rngs=rngs), nnx.Linear(128, width, rngs=rngs)])
        self.norms = nnx.List([nnx.LayerNorm(width, rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(width, 10, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = self.patches(x)
        x = x.reshape(x.shape[0], 16, x.shape[-1])
        y = self.norms[0](x).swapaxes(1, 2)
        x = x + self.tokens[1](nnx.gelu(self.tokens[0](y))).swapaxes(1, 2)
        x = x + self.channels[1](nnx.gelu(self.channels[0](self.norms[1](x))))
        return self.head(x.mean(1))


class Decoder(nnx.Module):
    """Tokens in, logits of the next ones out."""

    def __init__(self, rngs: nnx.Rngs, width: int = 64, words: int = 100) -> None:
        self.words, self.positions = nnx.Embed(words, width, rngs=rngs), nnx.Embed(8, width, rngs=rngs)
        self.layers = nnx.List([Layer(width, rngs) for _ in range(2)])
        self.norm, self.head = nnx.LayerNorm(width, rngs=rngs), nnx.Linear(width, words, use_bias=False, rngs=rngs)

    def __call__(self, ids: jax.Array) -> jax.Array:
        x = self.words(ids) + self.positions(jnp.arange(8))
        mask = jnp.tril(jnp.ones((1, 1, 8, 8), bool))
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


class LinenResNet(linen.Module):
    """Basic blocks."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        def conv(x: jax.Array, width: int, stride: int = 1) -> jax.Array:
            x = linen.Conv(width, (3, 3), stride, use_bias=False)(x)
            return linen.BatchNorm(use_running_average=not train)(x)

        for width in (16, 32, 64):
            x = linen.relu(conv(x, width, 1 if width == 16 else 2))
            x = linen.relu(x + conv(linen.relu(conv(x, width)), width))
        return linen.Dense(10)(x.mean((1, 2)))


class LinenTransformer(linen.Module):
    """Patches and layers."""

    @linen.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = linen.Conv(64, (8, 8), 8, padding="VALID")(x)
        x = x.reshape(x.shape[0], 16, 64)
        for _ in range(2):
            y = linen.LayerNorm()(x)
            x = x + linen.MultiHeadDotProductAttention(4)(y, y)
            x = x + linen.Dense(64)(linen.gelu(linen.Dense(128)(linen.LayerNorm()(x))))
        return linen.Dense(10)(x.mean(1))


class MLP(nnx.Module):
    """Two hidden layers."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in ((3072, 64), (64, 64), (64, 10))])

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x.reshape(x.shape[0], 3072)
        for layer in self.layers[:-1]:
            x = nnx.relu(layer(x))
        return self.layers[-1](x)


def _nnx(kind: type) -> Any:
    return lambda: (kind(nnx.Rngs(0)), IMAGE)


def _linen(module: linen.Module) -> Any:
    def build() -> tuple[LinenModel, Any]:
        variables = module.init(jax.random.key(0), jnp.zeros((1, *IMAGE[1:])))
        return LinenModel(module, variables, {"train": False}), IMAGE

    return build


mlp, resnet, convnext, mobilenet = _nnx(MLP), _nnx(ResNet), _nnx(ConvNeXt), _nnx(MobileNet)
densenet, unet, vit, mixer = _nnx(DenseNet), _nnx(UNet), _nnx(ViT), _nnx(Mixer)
linen_resnet, linen_transformer = _linen(LinenResNet()), _linen(LinenTransformer())


def decoder() -> tuple[Decoder, Any]:
    """With example tokens, since a shape alone means floats."""
    return Decoder(nnx.Rngs(0)), jnp.zeros((1, 8), jnp.int32)
