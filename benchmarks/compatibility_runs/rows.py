"""The rows of the table: their groups, the environments of these, and the networks that each row is measured with."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

__all__ = ["ENVIRONMENTS", "GROUPS", "ROWS", "Row", "rows_of"]

#: Group -> its environment, made of benchmarks/requirements/compat-NAME.txt. Groups whose pins agree share one.
ENVIRONMENTS = {
    "exporters-torch": "torch",
    "exporters-keras": "keras",
    "exporters-jax": "jax",
    "exporters-paddle": "paddle",
    "exporters-mindspore": "mindspore",
    "exporters-small": "small",
    "exporters-nnabla": "nnabla",
    "tools": "tools",
    "trainers": "torch",
    "trainers-onnx2tf": "onnx2tf",
    "trainers-ort": "ort-training",
    "runtimes": "runtimes",
}
GROUPS = tuple(ENVIRONMENTS)
_CONV, _TIED, _LSTM = "conv", "tied", "lstm"
_ALL = (_CONV, _TIED, _LSTM)
_TRACED = _ALL  # what trainers and file tools are given: files of PyTorch's networks
_FILES = (*_ALL, "mobilenet_keras", "convnet_flax", "resnet18_paddle", "vit_small_torch", "gpt_like")


@dataclasses.dataclass(frozen=True)
class Row:
    """A piece of software, or a way of using one.

    Attributes:
        key: of the row, unique.
        title: for people.
        group: decides the environment.
        module: of `compatibility_runs`, which knows the key.
        packages: whose versions are told.
        networks: what it is measured with.
        seconds: the time limit for one network.
        tolerance: of outputs, relative to the largest value.
        environ: further environment variables.
    """

    key: str
    title: str
    group: str
    module: str
    packages: tuple[str, ...]
    networks: tuple[str, ...] = _ALL
    seconds: int = 600
    tolerance: float = 1e-3
    environ: tuple[tuple[str, str], ...] = ()

    @property
    def kind(self) -> str:
        """exporters, tools, trainers or runtimes."""
        return self.group.partition("-")[0]


def _backend(name: str) -> tuple[tuple[str, str], ...]:
    return (("KERAS_BACKEND", name),)


_TORCH = ("torch", "onnxscript")
_KERAS_TF, _KERAS_JAX = ("keras", "tensorflow-cpu", "tf2onnx"), ("keras", "jax", "jax2onnx")

ROWS: tuple[Row, ...] = (
    Row("torchscript", "PyTorch, TorchScript", "exporters-torch", "from_torch", ("torch",)),
    Row("dynamo", "PyTorch, dynamo", "exporters-torch", "from_torch", _TORCH),
    Row("dynamo-plain", "PyTorch, dynamo, optimize=False", "exporters-torch", "from_torch", _TORCH),
    Row("torch-ours", "PyTorch, `onnx-ghn export`", "exporters-torch", "from_torch", ("torch",)),
    Row("keras-torch", "Keras on PyTorch", "exporters-torch", "from_keras", ("keras", *_TORCH),
        environ=_backend("torch")),
    Row("keras-torch-ours", "Keras on PyTorch, `onnx-ghn export`", "exporters-torch", "from_keras", ("keras", "torch"),
        environ=_backend("torch")),
    Row("brevitas-qcdq", "brevitas, QCDQ", "exporters-torch", "from_torch_libraries", ("brevitas", "torch"), (_CONV,)),
    Row("brevitas-qonnx", "brevitas, QONNX", "exporters-torch", "from_torch_libraries",
        ("brevitas", "qonnx", "torch"), (_CONV,)),
    Row("torch-geometric", "torch_geometric", "exporters-torch", "from_torch_libraries",
        ("torch-geometric", "torch"), ("gcn",)),
    Row("snntorch", "snnTorch", "exporters-torch", "from_torch_libraries", ("snntorch", "torch"), ("leaky",)),
    Row("e3nn", "e3nn", "exporters-torch", "from_torch_libraries", ("e3nn", "torch"), ("o3",)),
    Row("skl2onnx", "skl2onnx", "exporters-torch", "from_sklearn", ("skl2onnx", "scikit-learn"), ("mlp",)),
    Row("keras-tensorflow", "Keras on TensorFlow", "exporters-keras", "from_keras", _KERAS_TF,
        environ=_backend("tensorflow")),
    Row("keras-tensorflow-ours", "Keras on TensorFlow, `onnx-ghn export`", "exporters-keras", "from_keras", _KERAS_TF,
        environ=_backend("tensorflow")),
    Row("keras-jax", "Keras on JAX", "exporters-jax", "from_keras", _KERAS_JAX, (_CONV, _TIED),
        environ=_backend("jax")),
    Row("keras-jax-ours", "Keras on JAX, `onnx-ghn export`", "exporters-jax", "from_keras", _KERAS_JAX, (_CONV, _TIED),
        environ=_backend("jax")),
    Row("flax", "Flax nnx, jax2onnx", "exporters-jax", "from_flax", ("flax", "jax", "jax2onnx")),
    Row("flax-ours", "Flax nnx, `onnx-ghn export`", "exporters-jax", "from_flax", ("flax", "jax", "jax2onnx")),
    Row("haiku", "haiku, jax2onnx", "exporters-jax", "from_haiku", ("dm-haiku", "jax", "jax2onnx")),
    Row("equinox", "equinox, jax2onnx", "exporters-jax", "from_equinox", ("equinox", "jax", "jax2onnx")),
    Row("equinox-ours", "equinox, `onnx-ghn export`", "exporters-jax", "from_equinox", ("equinox", "jax", "jax2onnx")),
    Row("paddle", "Paddle", "exporters-paddle", "from_paddle", ("paddlepaddle", "paddle2onnx")),
    Row("paddle-ours", "Paddle, `onnx-ghn export`", "exporters-paddle", "from_paddle", ("paddlepaddle", "paddle2onnx")),
    Row("mindspore", "MindSpore", "exporters-mindspore", "from_mindspore", ("mindspore",)),
    Row("mindspore-ours", "MindSpore, `onnx-ghn export`", "exporters-mindspore", "from_mindspore", ("mindspore",)),
    Row("nnabla", "nnabla", "exporters-nnabla", "from_nnabla", ("nnabla", "nnabla-converter"), (_CONV,)),
    Row("aidge", "aidge", "exporters-small", "from_small", ("aidge-core", "aidge-onnx"), (_CONV,)),
    Row("ndonnx", "ndonnx", "exporters-small", "from_small", ("ndonnx",), ("mlp", _TIED)),
    Row("spox", "spox", "exporters-small", "from_small", ("spox",), (_CONV, _TIED)),
    *(
        Row(key, title, "tools", "tools", packages, _TRACED, tolerance=tolerance)
        for key, title, packages, tolerance in (
            ("onnxslim", "onnxslim", ("onnxslim",), 1e-3),
            ("onnxsim", "onnxsim", ("onnxsim",), 1e-3),
            ("onnxoptimizer", "onnxoptimizer", ("onnxoptimizer",), 1e-3),
            ("onnxscript", "onnxscript's optimizer", ("onnxscript",), 1e-3),
            ("onnx-ir-passes", "onnx-ir's passes (deduplication, common subexpressions)", ("onnx-ir",), 1e-3),
            ("graphsurgeon", "onnx-graphsurgeon (fold, cleanup)", ("onnx-graphsurgeon",), 1e-3),
            ("ort-basic", "onnxruntime offline, basic", ("onnxruntime",), 1e-3),
            ("ort-extended", "onnxruntime offline, extended", ("onnxruntime",), 1e-3),
            ("ort-all", "onnxruntime offline, all", ("onnxruntime",), 1e-3),
            ("ort-transformers", "onnxruntime's transformers optimizer (bert, level 0)", ("onnxruntime",), 1e-3),
            ("float16-common", "float16 by onnxconverter-common", ("onnxconverter-common",), 2e-2),
            ("float16-ort", "float16 by onnxruntime.transformers", ("onnxruntime",), 2e-2),
            ("quantize-dynamic", "onnxruntime's dynamic quantizer", ("onnxruntime",), 2e-1),
            ("quantize-static", "onnxruntime's static quantizer (QDQ)", ("onnxruntime",), 2e-1),
            ("version-converter", "onnx's version_converter (to opset 22)", ("onnx",), 1e-3),
        )
    ),
    Row("onnx2torch", "onnx2torch", "trainers", "trainers_torch", ("onnx2torch", "torch")),
    Row("onnx2pytorch", "onnx2pytorch", "trainers", "trainers_torch", ("onnx2pytorch", "torch")),
    Row("onnx2fx", "onnx2fx", "trainers", "trainers_torch", ("onnx2fx", "torch")),
    Row("onnx2tf", "onnx2tf", "trainers-onnx2tf", "trainers_onnx2tf", ("onnx2tf",)),
    Row("ort-training", "onnxruntime-training", "trainers-ort", "trainers_ort", ("onnxruntime-training",)),
    *(
        Row(key, title, "runtimes", "runtimes", packages, _FILES)
        for key, title, packages in (
            ("onnxruntime", "onnxruntime", ("onnxruntime",)),
            ("openvino", "OpenVINO, f32", ("openvino",)),
            ("tract", "tract", ("tract",)),
            ("opencv", "OpenCV's dnn", ("opencv-python-headless",)),
            ("onnx-reference", "onnx.reference", ("onnx",)),
            ("ncnn", "ncnn, through pnnx", ("ncnn", "pnnx")),
            ("iree", "IREE", ("iree-base-compiler", "iree-base-runtime")),
        )
    ),
)  # fmt: skip


def rows_of(groups: Sequence[str]) -> list[Row]:
    """The rows of some groups, in the order of the table."""
    return [row for row in ROWS if row.group in groups]
