"""Models of torch, Keras and JAX for `exact_counts.py`: their trainable elements, exports and outputs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

__all__ = ["subject_kind"]


class _Torch:
    """A torch module and random inputs."""

    def __init__(self, named: Any, exporter: str) -> None:
        from onnx_ghn.exporters import huggingface, pytorch

        self.named = named
        named.model.eval()
        self.options = {"exporter": exporter}
        self._is_transformer = named.exporter is huggingface
        given = huggingface.example_inputs(named.model) if self._is_transformer else named.example_inputs
        self.inputs: Any = _random(given)
        self._live = huggingface.LiveTransformer if self._is_transformer else pytorch.LiveModule

    def live(self) -> Any:
        return self._live(self.named.model, self.inputs, **self.options)

    def trainable(self) -> tuple[dict[str, int], dict[str, int]]:
        """Elements of the parameters that a gradient reaches from the outputs, and of the others."""
        import torch

        parameters = {name: p for name, p in self.named.model.named_parameters() if p.requires_grad}
        reached = [y for y in self._tensors(self._call()) if y.requires_grad]
        total = torch.stack([y.abs().sum() for y in reached]).sum()
        gradients = torch.autograd.grad(total, list(parameters.values()), allow_unused=True)
        split: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for (name, parameter), gradient in zip(parameters.items(), gradients, strict=True):
            split[gradient is None][name] = parameter.numel()
        return split

    def outputs(self) -> list[np.ndarray]:
        import torch

        with torch.no_grad():
            return [y.numpy() for y in self._tensors(self._call())]

    def arrays(self) -> list[np.ndarray]:
        return [x.numpy() for x in self._tensors(self.inputs)]

    def _call(self) -> Any:
        self.named.model.eval()
        if self._is_transformer:
            import inspect

            cached = "use_cache" in inspect.signature(self.named.model.forward).parameters
            options = {"use_cache": False} if cached else {}
            found = self.named.model(**self.inputs, **options, return_dict=True)
            return [y for y in found.values() if hasattr(y, "detach")]
        return self.named.model(*self.inputs) if isinstance(self.inputs, tuple) else self.named.model(self.inputs)

    @staticmethod
    def _tensors(tree: Any) -> list[Any]:
        from torch.utils._pytree import tree_leaves

        return [leaf for leaf in tree_leaves(tree) if hasattr(leaf, "detach")]


def _random(inputs: Any) -> Any:
    """Random numbers in the place of zeros, and tokens in the place of ones."""
    import torch

    if isinstance(inputs, dict):
        return {
            name: torch.randint(2, 100, x.shape) if name.endswith("input_ids") else _random(x)
            for name, x in inputs.items()
        }
    if isinstance(inputs, tuple):
        return tuple(_random(x) for x in inputs)
    is_zero = isinstance(inputs, torch.Tensor) and inputs.is_floating_point() and not inputs.any()
    return torch.rand(inputs.shape) if is_zero else inputs


class _Keras:
    """A Keras model and random inputs."""

    def __init__(self, named: Any, exporter: str) -> None:
        import keras

        self.named, self.options, self.inputs = named, {}, None
        rng = np.random.default_rng(0)
        self._inputs = [_drawn(rng, tensor.shape, str(tensor.dtype)) for tensor in named.model.inputs]
        self._keras = keras

    def live(self) -> Any:
        from onnx_ghn.exporters.keras import LiveKeras

        return LiveKeras(self.named.model)

    def trainable(self) -> tuple[dict[str, int], dict[str, int]]:
        """Elements of the weights that a gradient reaches from the outputs, and of the others."""
        import tensorflow as tf

        weights = [weight.value for weight in self.named.model.trainable_weights]
        with tf.GradientTape() as tape:
            total = tf.add_n([tf.reduce_sum(tf.abs(y)) for y in self._call()])
        gradients = tape.gradient(total, weights)
        split: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for weight, gradient in zip(self.named.model.trainable_weights, gradients, strict=True):
            split[gradient is None][weight.path] = int(np.prod(weight.shape))
        return split

    def outputs(self) -> list[np.ndarray]:
        return [np.asarray(y) for y in self._call()]

    def arrays(self) -> list[np.ndarray]:
        return list(self._inputs)

    def _call(self) -> list[Any]:
        given = self._inputs[0] if len(self._inputs) == 1 else self._inputs
        return list(self._keras.tree.flatten(self.named.model(given, training=False)))


class _Jax:
    """An nnx module, or a linen module with variables, and random inputs."""

    def __init__(self, named: Any, exporter: str) -> None:
        self.named, self.options = named, {}
        self.inputs = named.example_inputs
        rng = np.random.default_rng(0)
        if hasattr(self.inputs, "dtype"):
            self._inputs = [_drawn(rng, self.inputs.shape, str(self.inputs.dtype))]
        else:
            self._inputs = [_drawn(rng, self.inputs, "float32")]

    def live(self) -> Any:
        from onnx_ghn.exporters.flax import LinenModel, LiveLinen, LiveNNX

        return (LiveLinen if isinstance(self.named.model, LinenModel) else LiveNNX)(self.named.model, self.inputs)

    def trainable(self) -> tuple[dict[str, int], dict[str, int]]:
        """Elements of the parameters that the outputs depend on in the traced computation, and of the others."""
        import jax
        from jax.interpreters import partial_eval

        call, parameters = self._function()
        leaves = jax.tree_util.tree_leaves_with_path(parameters)
        traced = jax.make_jaxpr(call)(parameters)
        _, is_used = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
        split: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for (path, leaf), used in zip(leaves, is_used, strict=True):
            split[not used][jax.tree_util.keystr(path)] = int(leaf.size)
        return split

    def _function(self) -> tuple[Any, Any]:
        """What the model computes, as a function of its parameters; and these."""
        from flax import nnx

        from onnx_ghn.exporters.flax import LinenModel

        model = self.named.model
        if isinstance(model, LinenModel):
            others = {name: tree for name, tree in model.variables.items() if name != "params"}

            def apply(parameters: Any) -> Any:
                variables = {**others, "params": parameters}
                return model.module.apply(variables, *self._inputs, **model.apply_options)

            return apply, model.variables["params"]
        copy = nnx.clone(model)
        copy.eval()
        definition, parameters, rest = nnx.split(copy, nnx.Param, ...)

        def call(parameters: Any) -> Any:
            return nnx.merge(definition, parameters, rest)(*self._inputs)

        return call, parameters

    def outputs(self) -> list[np.ndarray]:
        import jax

        call, parameters = self._function()
        return [np.asarray(y) for y in jax.tree_util.tree_leaves(call(parameters))]

    def arrays(self) -> list[np.ndarray]:
        return list(self._inputs)


def subject_kind(model: Any) -> type:
    if hasattr(model, "named_parameters"):
        return _Torch
    return _Keras if hasattr(model, "trainable_weights") else _Jax


def _drawn(rng: np.random.Generator, shape: Iterable[Any], dtype: str) -> np.ndarray:
    sizes = [size if isinstance(size, int) else 1 for size in shape]
    if "int" in dtype:
        return rng.integers(2, 50, sizes).astype(dtype)
    return rng.random(sizes).astype(dtype)
