"""Which networks to train or evaluate: a split of DeepNets-1M, one of its indices, or a network with a name."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Iterator

import numpy as np
from torch import nn

from onnx_ghn.deepnets1m import Architecture, predefined, sample_width, stream_records
from onnx_ghn.deepnets1m.files import open_deepnets
from onnx_ghn.deepnets1m.records import as_evaluated
from onnx_ghn.errors import OptionError, did_you_mean
from onnx_ghn.training.nets.settings import Width

__all__ = ["Choice", "choose", "make_module", "n_nets"]

_SMALL_TRANSFORMERS = ("vit_b_16", "vit_b_32", "vit_l_16", "vit_l_32")  # whose patches divide 32 pixels


@dataclasses.dataclass(frozen=True)
class Choice:
    """A network to be made. `net` is an architecture, or the name of a torchvision network."""

    name: str
    net: Architecture | str


def choose(
    split: str,
    *,
    arch: str | None = None,
    n: int | None = None,
    file: str | os.PathLike[str] | None = None,
    seed: int = 1111,
    width: Width = "split",
    large_images: bool = False,
) -> Iterator[Choice]:
    """Networks in a fixed order, so that a run can be gone on with.

    Args:
        split: of the file or of the published sampler; `predefined`; or `torchvision`, where `arch` has the name.
        arch: one of the split only: an index, a name of `predefined`, or a torchvision network whatever the split.
        n: how many; needed for splits that are sampled.
        file: of DeepNets-1M architectures; without one they are sampled, from the seed.
        width: `train` draws channels and classifier width by the published training rule.

    Raises:
        OptionError: no such split, index or network. DataError: a damaged file.
    """
    known = dict(predefined(large_images=large_images))
    if arch is not None and not arch.isdigit():
        by_lower = {name.lower(): name for name in known}
        name = by_lower.get(arch.lower())
        return iter([Choice(name, known[name]) if name else Choice(arch, _torchvision_name(arch))])
    if split == "predefined":
        listed = [Choice(name, net) for name, net in known.items()]
        return iter([listed[_index(arch, len(listed), split)]] if arch is not None else listed[:n])
    return _architectures(split, arch, n, file, seed, width, large_images)


def n_nets(split: str, arch: str | None, n: int | None, file: str | os.PathLike[str] | None) -> int:
    """How many `choose` will give."""
    if arch is not None:
        return 1
    if split == "predefined":
        return min(n or 4, 4)
    if file is None:
        return n or 0
    with open_deepnets(file) as nets:
        return min(n or nets.count(split), nets.count(split))


def _architectures(
    split: str,
    arch: str | None,
    n: int | None,
    file: str | os.PathLike[str] | None,
    seed: int,
    width: Width,
    large_images: bool,
) -> Iterator[Choice]:
    if file is not None:
        with open_deepnets(file) as nets:
            count = nets.count(split)
            chosen = [_index(arch, count, split)] if arch is not None else range(min(n or count, count))
            for index in chosen:
                record = nets.record(split, index)
                architecture = nets.architecture(split, index, large_images=large_images)
                yield _sized(f"{split}-{index}", architecture, record.n_params, seed, index, width)
        return
    if arch is None and n is None:
        raise OptionError(f"split {split} is sampled without end: say how many with -n, or give a `file`")
    start = int(arch) if arch is not None else 0
    records = stream_records(split, seed, start)
    for index, record in enumerate(itertools.islice(records, 1 if arch is not None else n), start=start):
        architecture = record.architecture
        if width == "split":
            architecture = as_evaluated(architecture, split, large_images=large_images)
        yield _sized(f"{split}-{index}", architecture, record.n_params, seed, index, width)


def _sized(name: str, architecture: Architecture, n_params: int, seed: int, index: int, width: Width) -> Choice:
    if width == "train":
        architecture = sample_width(architecture, n_params, np.random.default_rng([seed, index]))
    return Choice(name, architecture)


def _index(arch: str, count: int, split: str) -> int:
    index = int(arch)
    if not 0 <= index < count:
        raise OptionError(f"`arch` {arch}: split {split} has 0 to {count - 1}")
    return index


def _torchvision_name(name: str) -> str:
    from torchvision import models

    if name not in models.list_models():
        meant = did_you_mean(name, models.list_models())
        raise OptionError(
            f"`arch` {name}: neither an index, nor ResNet-50, ViT, DARTS, PDARTS, nor of torchvision{meant}"
        )
    return name


def make_module(
    choice: Choice, num_classes: int, *, small_images: bool, pretrained: bool = False, **network_options: object
) -> nn.Module:
    """The torch module of a choice, with torch's random weights.

    Args:
        small_images: torchvision networks in the published form for 32 × 32 inputs; DeepNets-1M's in that too.
        pretrained: torchvision's ImageNet weights instead, but for the classifier.

    Raises:
        OptionError: pretrained weights of a network that has none.
    """
    if isinstance(choice.net, Architecture):
        from onnx_ghn.deepnets1m.network import Network

        if pretrained:
            raise OptionError(f"`pretrained`: {choice.name} has no pretrained weights; choose a torchvision network")
        return Network(choice.net, num_classes, large_images=not small_images, **network_options)  # type: ignore[arg-type]
    return _torchvision_module(choice.net, num_classes, small_images, pretrained)


def _torchvision_module(name: str, num_classes: int, small_images: bool, pretrained: bool) -> nn.Module:
    from torchvision import models

    from onnx_ghn.vision import adjust_to_small_images

    options: dict[str, object] = {"num_classes": num_classes}
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    is_small = small_images and name in _SMALL_TRANSFORMERS
    if is_small:
        options["image_size"] = 32
    module: nn.Module = models.get_model(name, weights=None, **options)
    if pretrained:
        try:
            state = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True)
        except (OSError, ValueError) as error:
            raise OptionError(
                f"`pretrained`: no weights of {name} ({error}); they are downloaded once, into $TORCH_HOME"
            ) from error
        own = module.state_dict()
        module.load_state_dict({k: v if own[k].shape == v.shape else own[k] for k, v in state.items() if k in own})
    return adjust_to_small_images(module) if small_images and not is_small else module
