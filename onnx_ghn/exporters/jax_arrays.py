"""What the exporters of the JAX frameworks share: the call of jax2onnx, and weights as the leaves of a tree."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

import numpy as np

from onnx_ghn.exporters.bridge import converting, input_list, is_shape
from onnx_ghn.exporters.live import LiveModel
from onnx_ghn.exporters.output import quiet
from onnx_ghn.exporters.weight_map import Array
from onnx_ghn.installing import require

if TYPE_CHECKING:
    import jax

__all__ = ["ByJax2onnx", "LiveTree", "convert", "exporter_name", "is_weight", "like", "mend_file", "path_name"]

_Tree = TypeVar("_Tree")


def exporter_name(package: str) -> str:
    """The versions of the framework and of jax2onnx.

    Raises:
        OptionError: one of them is not installed.
    """
    require(package, package)
    require("jax2onnx", package)
    return f"{package} {importlib.metadata.version(package)}, jax2onnx {importlib.metadata.version('jax2onnx')}"


def convert(function: Callable[..., object], example_inputs: object, path: Path, name: str) -> Path:
    """Write a function of arrays, and the weights in its closure, as ONNX.

    Args:
        example_inputs: an array, a shape (of sizes, and names of free axes), or a list of them.
        name: of the model, for error messages.

    Raises:
        GraphError: jax2onnx cannot export it.
        OptionError: there are no example inputs.
    """
    import jax2onnx

    # As jax2onnx takes them: arrays, and shapes of sizes and names of free axes.
    inputs = [tuple(given) if is_shape(given) else np.asarray(given) for given in input_list(example_inputs)]
    with converting(name, "jax2onnx"), quiet("jax2onnx"), quiet("onnx_ir"):
        jax2onnx.to_onnx(function, inputs, return_mode="file", output_path=str(path))
    return path


def mend_file(path: Path) -> None:
    """Put in the place of the shapes that a file gives to values between its nodes those that the nodes give them, and
    let it pool over the axes of images alone.

    jax2onnx moves transposes through a graph, and leaves the values on the way the shapes that they had before: an
    image's of channels last, of which onnx's checker says that it contradicts the operator. Its max poolings have more
    axes than onnxruntime knows, see `passes.pool_axes`.
    """
    import onnx
    import onnx_ir as ir

    from onnx_ghn.passes.pool_axes import PoolWhatIsPooled

    model = ir.load(path)
    PoolWhatIsPooled()(model)
    inner = [node for function in model.functions.values() for node in function.all_nodes()]
    for node in (*model.graph.all_nodes(), *inner):
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None
    ir.save(model, path)
    onnx.shape_inference.infer_shapes_path(str(path), str(path), data_prop=True)


class ByJax2onnx(LiveModel):
    """A live model whose files jax2onnx writes."""

    def mend(self, path: Path) -> None:
        """Make onnx's checker and onnxruntime take the file."""
        mend_file(path)


class LiveTree(ByJax2onnx, Generic[_Tree]):
    """Weights as the leaves of a tree, for frameworks whose modules cannot be changed: a new tree replaces the old."""

    def tree(self) -> _Tree:
        """The present tree."""
        raise NotImplementedError

    def replace(self, tree: _Tree) -> None:
        """Put another tree in its place."""
        raise NotImplementedError

    def leaves(self) -> dict[str, jax.Array]:
        """The tree's floating-point arrays by name."""
        import jax

        leaves = jax.tree_util.tree_leaves_with_path(self.tree())
        return {path_name(path): leaf for path, leaf in leaves if is_weight(leaf)}

    def read(self) -> dict[str, Array]:
        """Copies of all floating-point arrays."""
        return {name: np.array(leaf) for name, leaf in self.leaves().items()}

    def write(self, values: Mapping[str, Array]) -> None:
        """Replace the tree by one with these arrays."""
        import jax

        def new(path: Sequence[object], leaf: jax.Array) -> jax.Array:
            name = path_name(path)
            return like(values[name], leaf) if name in values else leaf

        self.replace(jax.tree_util.tree_map_with_path(new, self.tree()))


def is_weight(value: object) -> bool:
    """Whether a leaf is a floating-point array (a random key is none)."""
    import jax.numpy as jnp

    return hasattr(value, "dtype") and hasattr(value, "shape") and bool(jnp.issubdtype(value.dtype, jnp.floating))


def like(value: Array, old: jax.Array) -> jax.Array:
    """A numpy array as a jax array on the devices of the old one."""
    import jax

    return jax.device_put(value, getattr(old, "sharding", None))


def path_name(path: Sequence[object]) -> str:
    """A leaf's name: its keys, attributes and indices, joined by slashes."""
    parts = []
    for part in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(part, attribute):
                part = getattr(part, attribute)
                break
        parts.append(str(part))
    return "/".join(parts)
