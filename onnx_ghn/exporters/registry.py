"""Models by name, such as torchvision:resnet50, keras:ResNet50, flax:net.py:build or hf:folder."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import logging
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from onnx_ghn.errors import OptionError, did_you_mean
from onnx_ghn.installing import require
from onnx_ghn.limits import gib, memory_bytes

if TYPE_CHECKING:
    from torch import nn

__all__ = ["EXAMPLES", "FRAMEWORKS", "SUFFIXES", "NamedModel", "resolve"]


logger = logging.getLogger(__name__)

_COPIES = 4  # of the weights: the model's, those that are kept beside it, and those of the file, twice
_LARGE_BYTES = 8 << 30


class _Framework(NamedTuple):
    """A framework, or a library of models."""

    name: str  # that the name of a model begins with
    module: str  # that exports its models
    suffixes: tuple[str, ...]  # the endings of the files, or folders, that the module's `save_weights` writes
    examples: tuple[str, ...]  # what may follow the framework's name and a colon


_TABLE = (
    _Framework("torchvision", "pytorch", (".safetensors",), ("resnet50",)),
    _Framework("timm", "pytorch", (".safetensors",), ("convnext_atto",)),
    _Framework("torch", "pytorch", (".safetensors",), ("net.py:build",)),
    _Framework("hf", "huggingface", (".safetensors",), ("bert", "FOLDER")),
    _Framework("keras", "keras", (".weights.h5",), ("ResNet50", "saved.keras", "saved.h5", "net.py:build")),
    _Framework("tensorflow", "tensorflow", (".tf",), ("SAVEDMODEL", "net.py:build")),
    _Framework("flax", "flax", (".msgpack", ".orbax"), ("net.py:build",)),
    _Framework("equinox", "equinox", (".eqx",), ("net.py:build",)),
    _Framework("paddle", "paddle", (".pdparams",), ("resnet18", "net.py:build")),
    _Framework("mindspore", "mindspore", (".ckpt",), ("net.py:build",)),
    _Framework("sklearn", "sklearn", (".npz",), ("net.py:build",)),
)

#: The modules that export the frameworks' models.
FRAMEWORKS = {framework.name: framework.module for framework in _TABLE}
#: What may follow a framework's name and a colon.
EXAMPLES = {framework.name: framework.examples for framework in _TABLE}
#: The endings of the files, or folders, that a module's `save_weights` writes.
SUFFIXES = {framework.module: framework.suffixes for framework in _TABLE}


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """The model that a name stands for, and how to export it.

    Attributes:
        exporter: the module of onnx_ghn.exporters with `export`, `load` and `save_weights` for it.
        model: the framework's object.
        example_inputs: inputs of its forward pass, as `export` takes them; None where that needs none.
        suffixes: the endings of the framework's own files of weights.
    """

    exporter: ModuleType
    model: object
    example_inputs: object
    suffixes: tuple[str, ...]


def resolve(
    name: str, shapes: Sequence[tuple[int, ...]] = (), arguments: Mapping[str, object] | None = None
) -> NamedModel:
    """Build the model that a name stands for.

    Args:
        name: FRAMEWORK:MODEL, where MODEL is a constructor of the framework's library of models, or FILE.py:FUNCTION.
            The function returns a model, or a model and its example inputs.
        shapes: the shapes of the example inputs, if they are not to be the usual ones.
        arguments: keyword arguments of the constructor or function.

    Raises:
        OptionError: there is no such framework, model, file or function, or the framework is not installed.
    """
    framework, colon, model_name = name.partition(":")
    if not colon or not model_name or framework not in FRAMEWORKS:
        raise OptionError(
            f"{name!r} must be FRAMEWORK:TARGET with a framework of {', '.join(FRAMEWORKS)}{_meant(name)}"
        )
    exporter = importlib.import_module(f"onnx_ghn.exporters.{FRAMEWORKS[framework]}")
    path, _, function = model_name.rpartition(":")
    if path.endswith(".py"):
        built = _call(_function(Path(path), function), arguments or {}, name)
    else:
        built = _BUILDERS.get(framework, _needs_file)(model_name, arguments or {})
    model, inputs = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    if shapes:
        inputs = _inputs(framework, shapes)
    return NamedModel(exporter, model, inputs, SUFFIXES[FRAMEWORKS[framework]])


def _function(path: Path, name: str) -> Callable[..., object]:
    if not path.is_file():
        raise OptionError(f"{path}: no such file")
    spec = importlib.util.spec_from_file_location(f"onnx_ghn_target_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and Flax look themselves up there
    sys.path.insert(0, str(path.parent.resolve()))
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise OptionError(f"{path}: cannot be run ({type(error).__name__}: {error})") from error
    finally:
        sys.path.pop(0)
    function: object = getattr(module, name, None)
    if not callable(function):
        functions = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise OptionError(f"{path}: has no function {name!r}{_similar(name, functions)}")
    return function


def _call(function: Callable[..., object], arguments: Mapping[str, object], name: str) -> object:
    try:
        return function(**arguments)
    except Exception as error:  # whatever a foreign constructor raises
        raise OptionError(f"{name}: cannot be built ({type(error).__name__}: {error})") from error


def _inputs(framework: str, shapes: Sequence[tuple[int, ...]]) -> object:
    if framework in ("torchvision", "timm", "torch"):
        import torch

        return tuple(torch.zeros(shape) for shape in shapes)
    if framework == "paddle":
        import paddle

        return [paddle.zeros(shape) for shape in shapes]
    if framework == "mindspore":
        import mindspore

        return [mindspore.ops.zeros(shape) for shape in shapes]
    if framework == "keras" and len(shapes) == 1:
        return shapes[0]  # a list of one stays a list for the model that is called
    if framework in ("flax", "equinox", "tensorflow", "keras"):
        return [tuple(shape) for shape in shapes]
    raise OptionError(f"{framework} models know their own inputs; leave out `shapes`")


def _torchvision(name: str, arguments: Mapping[str, object]) -> object:
    models = require("torchvision.models", "torch")
    if name not in models.list_models():
        raise OptionError(f"torchvision has no model {name!r}{_similar(name, models.list_models())}")
    random = {"weights": None, **_random_backbone(models, name)}
    model = _call(lambda: models.get_model(name, **random, **arguments), {}, name)
    return model, _torchvision_inputs(models, name, model)


def _random_backbone(models: ModuleType, name: str) -> dict[str, None]:
    """The argument that keeps detectors and segmenters from downloading a backbone."""
    import inspect

    accepted = inspect.signature(models.get_model_builder(name)).parameters
    return {"weights_backbone": None} if "weights_backbone" in accepted else {}


def _torchvision_inputs(models: ModuleType, name: str, model: object) -> object:
    import torch

    module = models.get_model_builder(name).__module__
    if ".detection." in module:
        return ([torch.rand(3, 320, 320)],)
    if ".optical_flow." in module:
        return torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)
    transforms = models.get_model_weights(name).DEFAULT.transforms()
    if ".video." in module:
        height, width = _pair(transforms.crop_size)
        return torch.rand(1, 3, 16, height, width)
    # A vision transformer's own size is preferred: the published weights of vit_h_14 are for larger images.
    size = getattr(model, "image_size", None) or getattr(transforms, "crop_size", None) or (128, 128)
    return torch.rand(1, 3, *_pair(size))


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    sizes = [size] if isinstance(size, int) else list(size)
    return sizes[0], sizes[-1]


def _timm(name: str, arguments: Mapping[str, object]) -> object:
    timm = require("timm", "torch")
    import torch

    if not timm.is_model(name):
        raise OptionError(f"timm has no model {name!r}{_similar(name, timm.list_models())}")

    def build() -> tuple[nn.Module, torch.Tensor]:
        model = timm.create_model(name, pretrained=False, **arguments)
        return model, torch.rand(1, *model.default_cfg["input_size"])

    return _call(build, {}, name)


def _hf(name: str, arguments: Mapping[str, object]) -> object:
    transformers = require("transformers", "hf")
    if name in transformers.CONFIG_MAPPING:
        config = _call(lambda: transformers.AutoConfig.for_model(name, **arguments), {}, name)
    else:
        folder = Path(name)
        if not (folder / "config.json").is_file():
            raise OptionError(
                f"{name!r} is neither a model type of transformers nor a folder with a config.json"
                f"{_similar(name, list(transformers.CONFIG_MAPPING))}"
            )
        config = _call(lambda: transformers.AutoConfig.from_pretrained(str(folder), **arguments), {}, name)
    architectures = getattr(config, "architectures", None)
    kind = getattr(transformers, architectures[0], None) if architectures else None

    def build() -> object:
        return kind(config) if kind is not None else transformers.AutoModel.from_config(config)

    _check_size(_call(_sized(build), {}, name), name)
    return _call(build, {}, name)


def _sized(build: Callable[[], object]) -> Callable[[], object]:
    """Build a module on torch's meta device, where it has shapes and takes no memory."""

    def sized() -> object:
        import torch

        with torch.device("meta"):
            return build()

    return sized


def _check_size(module: object, name: str) -> None:
    """Say how large a model is before it is built, and refuse one that memory does not hold.

    Raises:
        OptionError: the weights, those of the export and the codes for them need more memory than there is.
    """
    from torch import nn

    assert isinstance(module, nn.Module)
    n_weights = sum(parameter.numel() for parameter in module.parameters())
    needed_bytes = _COPIES * 4 * n_weights
    if needed_bytes > memory_bytes():
        raise OptionError(
            f"{name}: {n_weights:,} weights need {gib(needed_bytes)} of memory to be exported, and there are "
            f"{gib(memory_bytes())}; make the model smaller, such as by --config num_hidden_layers=2"
        )
    if needed_bytes > _LARGE_BYTES:
        logger.warning(
            "%s: %s weights, which need %s of memory to be exported", name, f"{n_weights:,}", gib(needed_bytes)
        )


def _keras(name: str, arguments: Mapping[str, object]) -> object:
    keras = require("keras", "keras")
    if name.endswith((".keras", ".h5", ".hdf5")):
        if not Path(name).is_file():
            raise OptionError(f"{name}: no such file")
        return _call(lambda: keras.saving.load_model(name, compile=False), {}, name)
    constructor = getattr(keras.applications, name, None)
    if not callable(constructor):
        known = [key for key in dir(keras.applications) if callable(getattr(keras.applications, key))]
        raise OptionError(f"keras.applications has no model {name!r}{_similar(name, known)}")
    return _call(constructor, {"weights": None, **arguments}, name)


def _tensorflow(name: str, arguments: Mapping[str, object]) -> object:
    tensorflow = require("tensorflow", "tensorflow")
    if not (Path(name) / "saved_model.pb").is_file():
        raise OptionError(f"{name!r} is no folder of a SavedModel; or name a function, as in net.py:build")
    return _call(lambda: tensorflow.saved_model.load(name), arguments, name)


def _paddle(name: str, arguments: Mapping[str, object]) -> object:
    paddle = require("paddle", "paddle")
    models = paddle.vision.models
    constructor = getattr(models, name, None)
    if not callable(constructor) or not re.match(r"[a-z]", name):
        known = [key for key in dir(models) if re.match(r"[a-z]", key) and callable(getattr(models, key))]
        raise OptionError(f"paddle.vision.models has no model {name!r}{_similar(name, known)}")
    size = 299 if name == "inception_v3" else 224
    return _call(constructor, {"pretrained": False, **arguments}, name), paddle.zeros([1, 3, size, size])


def _needs_file(name: str, arguments: Mapping[str, object]) -> object:
    raise OptionError(f"{name!r}: this framework has no library of models; name a function, as in net.py:build")


def _meant(name: str) -> str:
    """What a name may mean whose framework is misspelt or left out."""
    framework, _, rest = name.partition(":")
    if framework.endswith(".py"):
        return f"; did you mean torch:{name}?"
    meant = did_you_mean(framework, FRAMEWORKS)
    return f"{meant[:-1]}:{rest}?" if meant and rest else meant


def _similar(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 3)
    return f"; there are {', '.join(close)}, …" if close else ""


_BUILDERS: dict[str, Callable[[str, Mapping[str, object]], object]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hf,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "paddle": _paddle,
}
