"""Models by a name on the command line: torchvision:resnet50, keras:ResNet50, flax:net.py:build, hf:folder, …"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from onnx_ghn.errors import OptionError
from onnx_ghn.exporters.missing import require

__all__ = ["FRAMEWORKS", "SUFFIXES", "Target", "resolve"]

#: What stands before the first colon, and the module that exports such a model.
FRAMEWORKS = {
    "torchvision": "pytorch",
    "timm": "pytorch",
    "torch": "pytorch",
    "hf": "huggingface",
    "keras": "keras",
    "tensorflow": "tensorflow",
    "flax": "flax",
    "equinox": "equinox",
    "paddle": "paddle",
    "mindspore": "mindspore",
    "sklearn": "sklearn",
}

#: What the file, or folder, that a module's `save_weights` writes may end in.
SUFFIXES = {
    "pytorch": (".safetensors",),
    "huggingface": (".safetensors",),
    "keras": (".weights.h5",),
    "tensorflow": (".tf",),
    "flax": (".msgpack", ".orbax"),
    "equinox": (".eqx",),
    "paddle": (".pdparams",),
    "mindspore": (".ckpt",),
    "sklearn": (".npz",),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """A model and how to export it.

    Attributes:
        exporter: the module of onnx_ghn.exporters with `export`, `load` and `save_weights`.
        model: of the framework.
        example_inputs: of its forward pass, as `export` takes them; None where that needs none.
        suffixes: of the framework's own files of weights.
    """

    exporter: ModuleType
    model: Any
    example_inputs: Any
    suffixes: tuple[str, ...]


def resolve(target: str, shapes: Sequence[tuple[int, ...]] = (), options: Mapping[str, Any] | None = None) -> Target:
    """Build the model that a name stands for.

    Args:
        target: FRAMEWORK:NAME, where NAME is a constructor of its model library, or FILE.py:FUNCTION; the function
            returns a model, or a model and its example inputs.
        shapes: of example inputs, in the place of the usual ones.
        options: keyword arguments of the constructor or function.

    Raises:
        OptionError: no such framework, model, file or function; not installed.
    """
    framework, colon, name = target.partition(":")
    if not colon or not name or framework not in FRAMEWORKS:
        raise OptionError(f"{target!r} must be FRAMEWORK:TARGET with a framework of {', '.join(FRAMEWORKS)}")
    exporter = importlib.import_module(f"onnx_ghn.exporters.{FRAMEWORKS[framework]}")
    path, _, function = name.rpartition(":")
    if path.endswith(".py"):
        made = _call(_function(Path(path), function), options or {}, target)
    else:
        made = _BUILDERS.get(framework, _needs_file)(name, options or {})
    model, inputs = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if shapes:
        inputs = _inputs(framework, shapes)
    return Target(exporter, model, inputs, SUFFIXES[FRAMEWORKS[framework]])


def _function(path: Path, name: str) -> Callable[..., Any]:
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
    function = getattr(module, name, None)
    if not callable(function):
        raise OptionError(f"{path}: has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _call(function: Callable[..., Any], options: Mapping[str, Any], what: str) -> Any:
    try:
        return function(**options)
    except Exception as error:  # whatever a foreign constructor raises
        raise OptionError(f"{what}: cannot be built ({type(error).__name__}: {error})") from error


def _inputs(framework: str, shapes: Sequence[tuple[int, ...]]) -> Any:
    if framework in ("torchvision", "timm", "torch"):
        import torch

        tensors = tuple(torch.zeros(shape) for shape in shapes)
        return tensors
    if framework == "paddle":
        import paddle

        return [paddle.zeros(shape) for shape in shapes]
    if framework == "mindspore":
        import mindspore

        return [mindspore.ops.zeros(shape) for shape in shapes]
    if framework in ("flax", "equinox", "tensorflow"):
        return [tuple(shape) for shape in shapes]
    raise OptionError(f"{framework} models know their inputs: leave --shape out")


def _torchvision(name: str, options: Mapping[str, Any]) -> Any:
    models = require("torchvision.models", "torch")
    if name not in models.list_models():
        raise OptionError(f"torchvision has no model {name!r}{_similar(name, models.list_models())}")
    model = _call(lambda: models.get_model(name, weights=None, **_random_backbone(models, name), **options), {}, name)
    return model, _torchvision_inputs(models, name, model)


def _random_backbone(models: Any, name: str) -> dict[str, Any]:
    """Detectors and segmenters would download a backbone."""
    import inspect

    accepted = inspect.signature(models.get_model_builder(name)).parameters
    return {"weights_backbone": None} if "weights_backbone" in accepted else {}


def _torchvision_inputs(models: Any, name: str, model: Any) -> Any:
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
    # A vision transformer's own size first: the published weights of vit_h_14 are for larger images than its default.
    size = getattr(model, "image_size", None) or getattr(transforms, "crop_size", None) or (128, 128)
    return torch.rand(1, 3, *_pair(size))


def _pair(size: Any) -> tuple[int, int]:
    values = list(size) if isinstance(size, list | tuple) else [size]
    return values[0], values[-1]


def _timm(name: str, options: Mapping[str, Any]) -> Any:
    timm = require("timm", "torch")
    import torch

    if not timm.is_model(name):
        raise OptionError(f"timm has no model {name!r}{_similar(name, timm.list_models())}")
    model = _call(lambda: timm.create_model(name, pretrained=False, **options), {}, name)
    return model, torch.rand(1, *model.default_cfg["input_size"])


def _hf(name: str, options: Mapping[str, Any]) -> Any:
    transformers = require("transformers", "hf")
    if name in transformers.CONFIG_MAPPING:
        config = _call(lambda: transformers.AutoConfig.for_model(name, **options), {}, name)
    else:
        folder = Path(name)
        if not (folder / "config.json").is_file():
            raise OptionError(
                f"{name!r} is neither a model type of transformers nor a folder with a config.json"
                f"{_similar(name, list(transformers.CONFIG_MAPPING))}"
            )
        config = _call(lambda: transformers.AutoConfig.from_pretrained(str(folder), **options), {}, name)
    architectures = getattr(config, "architectures", None)
    if architectures and hasattr(transformers, architectures[0]):
        return _call(lambda: getattr(transformers, architectures[0])(config), {}, name)
    return _call(lambda: transformers.AutoModel.from_config(config), {}, name)


def _keras(name: str, options: Mapping[str, Any]) -> Any:
    keras = require("keras", "keras")
    if name.endswith(".keras"):
        if not Path(name).is_file():
            raise OptionError(f"{name}: no such file")
        return _call(lambda: keras.saving.load_model(name, compile=False), {}, name)
    constructor = getattr(keras.applications, name, None)
    if not callable(constructor):
        known = [key for key in dir(keras.applications) if callable(getattr(keras.applications, key))]
        raise OptionError(f"keras.applications has no model {name!r}{_similar(name, known)}")
    return _call(constructor, {"weights": None, **options}, name)


def _tensorflow(name: str, options: Mapping[str, Any]) -> Any:
    tensorflow = require("tensorflow", "tensorflow")
    if not (Path(name) / "saved_model.pb").is_file():
        raise OptionError(f"{name!r} is no folder of a SavedModel; or name a function, as in net.py:build")
    return _call(lambda: tensorflow.saved_model.load(name), options, name)


def _paddle(name: str, options: Mapping[str, Any]) -> Any:
    paddle = require("paddle", "paddle")
    models = paddle.vision.models
    constructor = getattr(models, name, None)
    if not callable(constructor) or not re.match(r"[a-z]", name):
        known = [key for key in dir(models) if re.match(r"[a-z]", key) and callable(getattr(models, key))]
        raise OptionError(f"paddle.vision.models has no model {name!r}{_similar(name, known)}")
    size = 299 if name == "inception_v3" else 224
    return _call(constructor, {"pretrained": False, **options}, name), paddle.zeros([1, 3, size, size])


def _needs_file(name: str, options: Mapping[str, Any]) -> Any:
    raise OptionError(f"{name!r}: this framework has no library of models; name a function, as in net.py:build")


def _similar(name: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 3)
    return f"; there are {', '.join(close)}, …" if close else ""


_BUILDERS: dict[str, Callable[[str, Mapping[str, Any]], Any]] = {
    "torchvision": _torchvision,
    "timm": _timm,
    "hf": _hf,
    "keras": _keras,
    "tensorflow": _tensorflow,
    "paddle": _paddle,
}
