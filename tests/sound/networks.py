"""The networks of the sweep: a line each says the name, how the file is made, and what is known of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import shutil
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import norm_free
import onnx
import pytest
from keras_backend import choose_keras_backend
from quantised import QUANTISED

__all__ = ["NETWORKS", "Network"]

ROOT = Path(__file__).resolve().parents[2]
Classes = Literal["", "logits", "probabilities"]


@dataclasses.dataclass(frozen=True)
class Network:
    """A network of the sweep.

    Attributes:
        make: writes the file.
        classes: what the first output gives, if it is a classifier's: its last axis is that of the classes.
        stripped: whether the file holds no weights, so that there are none of its own to compare with.
        stays: an expression for the names of the tensors that have to stay, bit by bit.
        batch: of inputs whose first dimension is free.
        free: size of the other free dimensions.
        small: whether it is in the sample of the default tests.
        beyond: why it is allowed to be out of the limits; docs/coverage.md says it too.
    """

    name: str
    group: str
    make: Callable[[Path], None]
    classes: Classes = ""
    stripped: bool = False
    stays: str = ""
    batch: int = 4
    free: int = 32
    small: bool = False
    beyond: str = ""


def _needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


@contextlib.contextmanager
def _quiet() -> Any:
    """Exporters print and warn; none of it is ours."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


def _file(source: Path, path: Path) -> None:
    shutil.copyfile(source, path)


def _norm_free(name: str, path: Path) -> None:
    import torch

    net, x = norm_free.build(name)
    with _quiet():
        torch.onnx.export(net, (x,), path, dynamo=False, do_constant_folding=False)


def _named(target: str, shapes: tuple[tuple[int, ...], ...], arguments: Mapping[str, object], path: Path) -> None:
    """A model of a library, with the weights that it draws, by `onnx-ghn export`."""
    import torch

    library = target.partition(":")[0]
    _needs({"hf": "transformers"}.get(library, library))
    if library == "keras":
        choose_keras_backend()
        import keras

        keras.utils.set_random_seed(0)
    from onnx_ghn.exporters.registry import resolve

    torch.manual_seed(0)
    with _quiet():
        named = resolve(target, shapes, arguments)
        named.exporter.export(named.model, path, named.example_inputs)


def _images(library: str, names: str, size: int = 64, **fields: Any) -> list[Network]:
    """Classifiers of images by name, on four images of a size; a star marks those of the small sample."""
    networks = []
    for word in names.split():
        name = word.removesuffix("*")
        make = functools.partial(_named, f"{library}:{name}", ((4, 3, size, size),), {})
        networks.append(
            Network(f"{library}:{name}", library, make, **{"classes": "logits", **fields}, small=name != word)
        )
    return networks


_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 500,
}
_LAYERS = {key: value for key, value in _TEXT.items() if key != "vocab_size"}
_PATCHES: dict[str, Any] = {**_LAYERS, "image_size": 64, "patch_size": 16}
_PAIR: dict[str, Any] = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": 500,
}


def _hf(kind: str, arguments: Mapping[str, Any], head: str = "", small: bool = False) -> Network:
    """A transformer of a small configuration, by itself or with a head."""
    options = {**arguments, "architectures": [head]} if head else arguments
    classes: Classes = "logits" if head.endswith(("LM", "LMHeadModel", "Classification")) else ""
    make = functools.partial(_named, f"hf:{kind}", (), options)
    return Network(f"hf:{kind}" + f" ({head})" * bool(head), "transformers", make, classes, small=small)


def _stripped() -> list[Network]:
    examples = sorted((ROOT / "data/examples").glob("*.onnx"))
    light = sorted((Path(onnx.__file__).parent / "backend/test/data/light").glob("light_*.onnx"))
    small = {"lstm_text", "light_squeezenet"}
    logits = {"resnet18_cifar10", "resnet18_paddle", "resnet50_torchscript", "resnet50_torch_dynamo", "vit_small_torch"}
    logits |= {"bert_like", "gpt_like", "lstm_text", "convnet_flax", "audio_m5", "light_densenet121"}
    networks = []
    for group, paths in (("examples", examples), ("onnx's light models", light)):
        for path in paths:
            classes: Classes = "probabilities" if path in light or path.stem == "mobilenet_keras" else ""
            classes = "logits" if path.stem in logits else classes
            make = functools.partial(_file, path)
            small_one = path.stem in small
            networks.append(Network(path.stem, group, make, classes, stripped=True, small=small_one))
    return networks


def _detector(target: str) -> Network:
    return Network(target, target.partition(":")[0], functools.partial(_named, target, (), {}))


#: Of those that have no mark of their own.
_SMALL = {
    "QDQ, int8 by channel",
    "dynamic, int8 MLP",
    "residual super-resolution",
    "MLP of 26 layers",
    "towers of RetinaNet",
}

_LOUD = (
    "Its own weights are drawn with a deviation of 0.1, which gives logits of 3.2 at the start; the prediction's are "
    "0.27, and its first loss is that of a guess. Outputs that are smaller than the file's own are scaled only where "
    "they are smaller than those of the standard initialisation, too: the file may be trained."
)

NETWORKS: tuple[Network, ...] = (
    *_stripped(),
    *_images("torchvision", "alexnet vgg11 resnet18 resnet50 mobilenet_v2"),
    *_images("torchvision", "squeezenet1_1* shufflenet_v2_x0_5 densenet121 efficientnet_b0 mnasnet0_5"),
    *_images("torchvision", "convnext_tiny googlenet swin_t mobilenet_v3_small"),
    *_images("torchvision", "inception_v3", 96, beyond=_LOUD),
    *_images("torchvision", "lraspp_mobilenet_v3_large", classes=""),
    _detector("torchvision:ssdlite320_mobilenet_v3_large"),
    *_images("timm", "convnext_atto nf_regnet_b0 eca_nfnet_l0 mobileone_s0 repvgg_a0 ghostnet_050 lcnet_050"),
    *_images("timm", "mobilenetv4_conv_small efficientvit_b0 fastvit_t8 hgnetv2_b0 edgenext_xx_small", 128),
    *_images("timm", "tinynet_e poolformer_s12 inception_next_atto starnet_s1 mambaout_femto skresnet18 dla46_c", 96),
    *_images(
        "timm", "test_vit test_resnet* test_convnext test_efficientnet test_nfnet test_byobnet test_mambaout", 160
    ),
    *_images("timm", "mobilevit_xxs", 128),
    *_images("timm", "levit_128s xcit_nano_12_p16_224 resmlp_12_224 gmixer_12_224 cait_xxs24_224 coat_lite_tiny", 224),
    _hf("bert", _TEXT, "BertForSequenceClassification", small=True),
    _hf("roberta", _TEXT, "RobertaForMaskedLM"),
    _hf("distilbert", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 500}),
    _hf("albert", {**_TEXT, "embedding_size": 32}),
    _hf("electra", {**_TEXT, "embedding_size": 32}),
    _hf("deberta-v2", _TEXT),
    _hf("modernbert", {**_TEXT, "pad_token_id": 0}),
    _hf("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500}, "GPT2LMHeadModel"),
    _hf("gpt_neox", _TEXT, "GPTNeoXForCausalLM"),
    _hf("opt", {**_TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64, "pad_token_id": 0}),
    _hf("bloom", {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500}),
    _hf("llama", {**_TEXT, "num_key_value_heads": 2, "head_dim": 16}, "LlamaForCausalLM"),
    _hf("qwen2", {**_TEXT, "num_key_value_heads": 2}),
    _hf("gemma", {**_TEXT, "num_key_value_heads": 2, "head_dim": 16, "pad_token_id": 0}, "GemmaForCausalLM"),
    _hf("phi", {**_TEXT, "pad_token_id": 0}),
    _hf("t5", {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 500}),
    _hf("bart", {**_PAIR, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}),
    _hf("vit", _PATCHES, "ViTForImageClassification"),
    _hf("beit", _PATCHES),
    _hf(
        "dinov2",
        {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 16},
    ),
    _hf("swin", {"image_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "window_size": 4}),
    _hf("segformer", {"hidden_sizes": (16, 32, 32, 64), "depths": (1, 1, 1, 1), "image_size": 64}),
    _hf("poolformer", {"hidden_sizes": (16, 32, 32, 64), "depths": (1, 1, 1, 1)}),
    _hf("wav2vec2", {**_LAYERS, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4}),
    _hf("whisper", {**_PAIR, "max_source_positions": 50, "num_mel_bins": 16, "pad_token_id": 0}),
    _hf("clip", {"text_config": {**_TEXT, "eos_token_id": 1}, "vision_config": _PATCHES, "projection_dim": 32}),
    *[
        Network(
            f"keras:{name}",
            "keras.applications on torch",
            functools.partial(_named, f"keras:{name}", (), {"input_shape": (64, 64, 3)}),
            "probabilities",
        )
        for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetB0")
    ],
    *[
        Network(
            name, "quantised", make, stays=stays, batch=8, small=name in ("QDQ, int8 by channel", "dynamic, int8 MLP")
        )
        for name, (make, stays) in QUANTISED.items()
    ],
    *[
        Network(
            name,
            "without norms",
            functools.partial(_norm_free, name),
            "logits" if is_classifier else "",
            small=name in _SMALL,
        )
        for name, (_, _, is_classifier) in norm_free.NORM_FREE.items()
    ],
)
