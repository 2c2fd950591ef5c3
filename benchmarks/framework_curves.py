"""One epoch on a part of CIFAR-10 in each framework: its own initialisation against predicted weights.

    python benchmarks/framework_curves.py data -D DATA -o subset.npz
    python benchmarks/framework_curves.py pytorch --data subset.npz --out curves.json    # keras, flax, paddle
    python benchmarks/framework_curves.py plot --out curves.json -o curves.png

The same small residual network, batches, SGD with momentum and learning rate in all. A framework runs in its own
environment (`make exporters`); where that has no torch, ONNX_GHN_PYTHON names the interpreter that predicts.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

WIDTHS = (32, 64, 128)
MOMENTUM = 0.9
Array = np.ndarray
#: (model, load its weights from a file, train it: images, labels, rate -> losses)
Run = tuple[Any, Any, Callable[[Array, Array, float], list[float]]]


@click.group()
def main() -> None:
    """Measure and draw."""


@main.command()
@click.option("-D", "--data-dir", required=True)
@click.option("-n", "--images", default=12_800, show_default=True)
@click.option("-o", "--output", required=True)
def data(data_dir: str, images: int, output: str) -> None:
    """Write the first images of a shuffled CIFAR-10, normalised."""
    from onnx_ghn.vision import CIFAR_NORM, load_dataset

    found = load_dataset("cifar10", data_dir, "train")
    order = np.random.default_rng(0).permutation(len(found))[:images]
    x = (found.images[order] / 255 - CIFAR_NORM.mean) / CIFAR_NORM.std
    np.savez(output, x=x.astype(np.float32), y=found.labels[order])


@main.command()
@click.option("--out", required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, help="A .png or .svg file.")
@click.option("--smooth", default=15, show_default=True, help="Steps of the moving mean.")
def plot(out: Path, output: str, smooth: int) -> None:
    """Draw the curves."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    plt.rcParams |= {"font.size": 11, "svg.fonttype": "none", "svg.hashsalt": "onnx-ghn"}
    curves = json.loads(out.read_text())
    figure, axes = plt.subplots(1, len(curves), figsize=(3 * len(curves) + 0.6, 3.1), sharey=True, layout="constrained")
    for ax, (name, pair) in zip(np.atleast_1d(axes), curves.items(), strict=True):
        for key, colour, label in (("default", "#94a3b8", "its own"), ("predicted", "#2563eb", "predicted")):
            mean = np.convolve(pair[key], np.ones(smooth) / smooth, mode="valid")
            ax.plot(np.arange(len(mean)) + smooth, mean, color=colour, linewidth=2, label=label)
        ax.set_title(name, loc="left", fontsize=12)
        ax.set_xlabel("step")
        ax.grid(alpha=0.25)
        ax.spines[["top", "right"]].set_visible(False)
    first = np.atleast_1d(axes)[0]
    first.set_ylabel("training loss")
    first.legend(frameon=False, loc="center left")
    figure.savefig(output, dpi=160)
    for name, pair in curves.items():
        ends = {key: round(float(np.mean(values[-50:])), 3) for key, values in pair.items() if isinstance(values, list)}
        click.echo(f"{name}: mean loss of the last 50 steps {ends}")


def _command(name: str, build: Callable[[int], Run]) -> None:
    @main.command(name=name.lower())
    @click.option("--data", "path", required=True)
    @click.option("--out", required=True, type=click.Path(path_type=Path))
    @click.option("--batch", default=64, show_default=True)
    @click.option("--rate", default=0.02, show_default=True)
    @click.option("--seed", default=0, show_default=True)
    def command(path: str, out: Path, batch: int, rate: float, seed: int) -> None:
        with np.load(path) as found:
            x, y = found["x"], found["y"]
        n = len(x) // batch * batch
        x, y = x[:n].reshape(-1, batch, *x.shape[1:]), y[:n].reshape(-1, batch)
        pair: dict[str, Any] = {}
        for key in ("default", "predicted"):
            model, exporter, train = build(seed)
            if key == "predicted":
                _fill(model, exporter, x[0])
            pair[key] = train(x, y, rate)
        curves = json.loads(out.read_text()) if out.exists() else {}
        out.write_text(json.dumps({**curves, name: pair}))
        click.echo(f"{name}: {[round(float(np.mean(pair[key][-20:])), 3) for key in ('default', 'predicted')]}")


def _fill(model: Any, exporter: Any, images: Array) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, filled = os.path.join(folder, "m.onnx"), os.path.join(folder, "i.onnx")
        exporter.export(model, path, exporter.example(images))
        if importlib.util.find_spec("torch") is not None:
            from onnx_ghn import predict

            predict(path, filled, policy="all")
        else:
            python = os.environ["ONNX_GHN_PYTHON"]
            subprocess.run(
                [python, "-m", "onnx_ghn", "predict", path, "-o", filled, "--policy", "all"],
                check=True,
                capture_output=True,
            )
        exporter.load(model, filled)


class _Exporter:
    def __init__(self, name: str, example: Callable[[Array], Any]) -> None:
        module = importlib.import_module(f"onnx_ghn.exporters.{name}")
        self.export, self.load, self.example = module.export, module.load, example


def _residual(nn: Any, base: Any, convolution: Callable[..., Any], norm: Any, pool: Any) -> Any:
    """The network in the terms of PyTorch, which Paddle shares but for the names of these classes."""

    def conv(into: int, out: int, stride: int = 1) -> list[Any]:
        return [convolution(into, out, 3, stride, 1), norm(out), nn.ReLU()]

    class Block(base):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(*conv(width, width), *conv(width, width)[:2])

        def forward(self, x: Any) -> Any:
            return nn.functional.relu(x + self.body(x))

    layers, into = [], 3
    for width in WIDTHS:
        layers += [*conv(into, width, 1 if into == 3 else 2), Block(width)]
        into = width
    return nn.Sequential(*layers, pool(1), nn.Flatten(), nn.Linear(into, 10))


def _torch(seed: int) -> Run:
    import torch
    from torch import nn

    torch.manual_seed(seed)

    convolution = functools.partial(nn.Conv2d, bias=False)
    model = _residual(nn, nn.Module, convolution, nn.BatchNorm2d, nn.AdaptiveAvgPool2d)

    def train(x: Array, y: Array, rate: float) -> list[float]:
        optimizer, losses = torch.optim.SGD(model.parameters(), rate, MOMENTUM), []
        for images, labels in zip(x, y, strict=True):
            optimizer.zero_grad()
            logits = model(torch.from_numpy(images).permute(0, 3, 1, 2))
            loss = nn.functional.cross_entropy(logits, torch.from_numpy(labels))
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return model, _Exporter("pytorch", lambda i: torch.from_numpy(i).permute(0, 3, 1, 2)), train


def _keras(seed: int) -> Run:
    import keras

    keras.utils.set_random_seed(seed)
    layers = keras.layers

    def conv(x: Any, width: int, stride: int = 1) -> Any:
        x = layers.Conv2D(width, 3, stride, padding="same", use_bias=False)(x)
        return layers.BatchNormalization()(x)

    image = keras.Input((32, 32, 3))
    x = image
    for i, width in enumerate(WIDTHS):
        x = layers.ReLU()(conv(x, width, 1 if i == 0 else 2))
        x = layers.ReLU()(layers.Add()([x, conv(layers.ReLU()(conv(x, width)), width)]))
    model = keras.Model(image, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))

    def train(x: Array, y: Array, rate: float) -> list[float]:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(rate, MOMENTUM), loss)
        losses = []
        for images, labels in zip(x, y, strict=True):
            model.reset_metrics()
            losses.append(float(model.train_on_batch(images, labels)))
        return losses

    return model, _Exporter("keras", lambda images: None), train


def _flax(seed: int) -> Run:
    import jax
    import optax
    from flax import nnx

    class Conv(nnx.Module):
        def __init__(self, into: int, out: int, stride: int, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(into, out, (3, 3), stride, use_bias=False, rngs=rngs)
            self.norm = nnx.BatchNorm(out, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.norm(self.conv(x))

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            stages, into = [], 3
            for width in WIDTHS:
                stages.append(
                    nnx.List(
                        [
                            Conv(into, width, 1 if into == 3 else 2, rngs),
                            Conv(width, width, 1, rngs),
                            Conv(width, width, 1, rngs),
                        ]
                    )
                )
                into = width
            self.stages = nnx.List(stages)
            self.head = nnx.Linear(into, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            for first, second, third in self.stages:
                x = nnx.relu(first(x))
                x = nnx.relu(x + third(nnx.relu(second(x))))
            return self.head(x.mean((1, 2)))

    model = Net(nnx.Rngs(seed))

    def train(x: Array, y: Array, rate: float) -> list[float]:
        model.train()
        optimizer, losses = nnx.Optimizer(model, optax.sgd(rate, MOMENTUM), wrt=nnx.Param), []

        @nnx.jit
        def step(model: Any, optimizer: Any, images: jax.Array, labels: jax.Array) -> jax.Array:
            def loss(model: Any) -> jax.Array:
                return optax.softmax_cross_entropy_with_integer_labels(model(images), labels).mean()

            value, grads = nnx.value_and_grad(loss)(model)
            optimizer.update(model, grads)
            return value

        for images, labels in zip(x, y, strict=True):
            losses.append(float(step(model, optimizer, images, labels)))
        return losses

    return model, _Exporter("flax", lambda images: images), train


def _paddle(seed: int) -> Run:
    import paddle
    from paddle import nn

    paddle.seed(seed)

    convolution = functools.partial(nn.Conv2D, bias_attr=False)
    model = _residual(nn, nn.Layer, convolution, nn.BatchNorm2D, nn.AdaptiveAvgPool2D)

    def train(x: Array, y: Array, rate: float) -> list[float]:
        model.train()
        optimizer, losses = paddle.optimizer.Momentum(rate, MOMENTUM, parameters=model.parameters()), []
        for images, labels in zip(x, y, strict=True):
            logits = model(paddle.to_tensor(images.transpose(0, 3, 1, 2)))
            loss = nn.functional.cross_entropy(logits, paddle.to_tensor(labels))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            losses.append(loss.item())
        return losses

    return model, _Exporter("paddle", lambda i: paddle.to_tensor(i.transpose(0, 3, 1, 2))), train


for _name, _build in (("PyTorch", _torch), ("Keras", _keras), ("Flax", _flax), ("Paddle", _paddle)):
    _command(_name, _build)

if __name__ == "__main__":
    main()
