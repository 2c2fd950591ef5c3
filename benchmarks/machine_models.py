"""The networks that `machine_predictor.py` predicts and measures: sixty of five kinds, with random weights."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

__all__ = ["KINDS", "Subject", "export", "subjects"]

KINDS = ("torchvision", "timm", "transformers", "audio", "detectors")

_TORCHVISION = """
resnet18 resnet50 resnext50_32x4d densenet121 squeezenet1_1 shufflenet_v2_x1_0 mobilenet_v2 mobilenet_v3_small
mobilenet_v3_large mnasnet0_5 efficientnet_b0 efficientnet_b1 regnet_x_400mf regnet_y_800mf convnext_tiny swin_t
vit_b_16 googlenet alexnet vgg11
"""
_TIMM = """
nf_regnet_b0 mobileone_s0 repvgg_a0 ghostnet_100 lcnet_100 convnext_atto convnextv2_atto inception_next_atto starnet_s1
skresnet18 dla46_c poolformer_s12 pvt_v2_b0 mobilenetv4_conv_small efficientvit_b0 fastvit_t8 hgnetv2_b0 mobilevit_xxs
resmlp_12_224 deit_tiny_patch16_224
"""
_BERT = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1536}
#: Configurations by name: the type, its arguments, and the number of tokens.
_TRANSFORMERS: Mapping[str, tuple[str, Mapping[str, Any], int]] = {
    "bert-base-32": ("bert", {}, 32),
    "bert-base-128": ("bert", {}, 128),
    "bert-small-16": ("bert", _BERT, 16),
    "bert-small-384": ("bert", _BERT, 384),
    "distilbert-64": ("distilbert", {}, 64),
    "roberta-small-256": ("roberta", _BERT, 256),
    "electra-small-128": ("electra", {}, 128),
    "gpt2-64": ("gpt2", {}, 64),
    "albert-128": ("albert", {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072}, 128),
    "llama-small-128": (
        "llama",
        {"hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4}
        | {"intermediate_size": 1376, "vocab_size": 16000},
        128,
    ),
}


@dataclasses.dataclass(frozen=True)
class Subject:
    """A network of a kind."""

    kind: str
    name: str


def subjects() -> list[Subject]:
    """All sixty, by kind."""
    names = {
        "torchvision": _TORCHVISION.split(),
        "timm": _TIMM.split(),
        "transformers": list(_TRANSFORMERS),
        "audio": list(_AUDIO),
        "detectors": list(_DETECTORS),
    }
    return [Subject(kind, name) for kind in KINDS for name in names[kind]]


def export(subject: Subject, path: Path) -> None:
    """Write a network of random weights (seed 0) for one input of fixed size."""
    import torch

    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)  # its operator has no ONNX
    module, inputs = _built(subject)
    partial = path.with_suffix(".part")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), inputs, str(partial), dynamo=False, opset_version=17, export_params=True, verbose=False
        )
    partial.replace(path)


def _built(subject: Subject) -> tuple[Any, tuple[Any, ...]]:
    import torch

    image = torch.randn(1, 3, 224, 224)
    if subject.kind == "torchvision":
        from torchvision import models

        extra = {"init_weights": False, "aux_logits": False} if subject.name == "googlenet" else {}
        return models.get_model(subject.name, weights=None, **extra), (image,)
    if subject.kind == "timm":
        import timm

        return timm.create_model(subject.name, pretrained=False, exportable=True), (image,)
    if subject.kind == "transformers":
        kind, arguments, tokens = _TRANSFORMERS[subject.name]
        ids = torch.randint(1, 1000, (1, tokens))
        return _Tokens(_transformer(kind, **arguments)), (ids,)
    build = {**_AUDIO, **_DETECTORS}[subject.name]
    built: tuple[Any, tuple[Any, ...]] = build()
    return built


def _transformer(kind: str, **arguments: Any) -> Any:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(kind, **arguments)
    config._attn_implementation = "eager"
    config.use_cache = False
    config.return_dict = False
    return AutoModel.from_config(config, attn_implementation="eager")


def _Tokens(model: Any) -> Any:
    """A module that takes token numbers alone, with a mask of ones made inside it."""
    import torch

    class Tokens(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Any) -> Any:
            return self.model(input_ids=ids, attention_mask=torch.ones_like(ids))[0]

    return Tokens()


def _First(model: Any, *names: str) -> Any:
    """A module that gives the first outputs of a model of transformers alone."""
    import torch

    class First(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, x: Any) -> Any:
            found = self.model(x)
            return tuple(found[name] for name in names) if names else found[0]

    return First()


def _m5() -> tuple[Any, tuple[Any, ...]]:
    """M5 on a second of 16 kHz (Dai et al., arXiv 1610.00087)."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    n_in = 1
    for n_out, kernel, stride in ((64, 80, 4), (64, 3, 1), (128, 3, 1), (256, 3, 1)):
        layers += [nn.Conv1d(n_in, n_out, kernel, stride), nn.BatchNorm1d(n_out), nn.ReLU(), nn.MaxPool1d(4)]
        n_in = n_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(n_in, 35)), (
        torch.randn(1, 1, 16000),
    )


def _crnn() -> tuple[Any, tuple[Any, ...]]:
    """Convolutions, then a bidirectional GRU, over 200 frames of 64 mels."""
    import torch
    from torch import nn

    class Crnn(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.front = nn.Sequential(
                *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d((1, 2))),
                *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d((1, 4))),
            )
            self.gru = nn.GRU(64 * 8, 128, 2, batch_first=True, bidirectional=True)
            self.head = nn.Linear(256, 40)

        def forward(self, x: Any) -> Any:
            y = self.front(x)  # (n, 1, t, 64) -> (n, 64, t, 8)
            return self.head(self.gru(y.permute(0, 2, 1, 3).flatten(2))[0])

    return Crnn(), (torch.randn(1, 1, 200, 64),)


def _lstm() -> tuple[Any, tuple[Any, ...]]:
    """Three layers of LSTM over 100 frames of 80 mels."""
    import torch
    from torch import nn

    class Lstm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(80, 256, 3, batch_first=True)
            self.head = nn.Linear(256, 32)

        def forward(self, x: Any) -> Any:
            return torch.log_softmax(self.head(self.lstm(x)[0]), -1)

    return Lstm(), (torch.randn(1, 100, 80),)


def _wav2vec2() -> tuple[Any, tuple[Any, ...]]:
    """Half a second of 16 kHz through six layers."""
    import torch

    model = _transformer("wav2vec2", num_hidden_layers=6, hidden_size=384, num_attention_heads=6)
    return _First(model), (torch.randn(1, 8000),)


def _whisper() -> tuple[Any, tuple[Any, ...]]:
    """The encoder of Whisper tiny, over three seconds."""
    import torch

    sizes = {"d_model": 384, "encoder_layers": 4, "encoder_attention_heads": 6, "encoder_ffn_dim": 1536}
    model = _transformer("whisper", max_source_positions=150, **sizes)
    return _First(model.encoder), (torch.randn(1, 80, 300),)


def _torchvision_detector(name: str, side: int, **arguments: Any) -> Callable[[], tuple[Any, tuple[Any, ...]]]:
    """Backbone, pyramid, heads and suppression, as torchvision has them."""

    def build() -> tuple[Any, tuple[Any, ...]]:
        import torch
        from torchvision.models import detection

        model = getattr(detection, name)(weights=None, weights_backbone=None, num_classes=21, **arguments)
        return model, ([torch.rand(3, side, side)],)

    return build


def _yolo() -> tuple[Any, tuple[Any, ...]]:
    """A one-stage detector in the manner of YOLO: strided blocks, an upsampled neck, two heads, boxes decoded."""
    import torch
    from torch import nn

    def block(n_in: int, n_out: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
        convolution = nn.Conv2d(n_in, n_out, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(n_out), nn.SiLU())

    class Split(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.first, self.second = block(width, width // 2, 1), block(width, width // 2, 1)
            self.inner = nn.Sequential(block(width // 2, width // 2), block(width // 2, width // 2))
            self.last = block(width, width, 1)

        def forward(self, x: Any) -> Any:
            y = self.first(x)
            return self.last(torch.cat([y + self.inner(y), self.second(x)], 1))

    class Yolo(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Sequential(block(3, 16, 3, 2), block(16, 32, 3, 2), Split(32))
            self.low = nn.Sequential(block(32, 64, 3, 2), Split(64), block(64, 128, 3, 2), Split(128))
            self.high = nn.Sequential(block(128, 256, 3, 2), Split(256))
            self.lateral, self.join = block(256, 128, 1), Split(256)
            self.heads = nn.ModuleList([nn.Conv2d(256, 3 * 25, 1), nn.Conv2d(256, 3 * 25, 1)])

        def forward(self, x: Any) -> Any:
            low = self.low(self.stem(x))
            high = self.high(low)
            joined = self.join(torch.cat([nn.functional.interpolate(self.lateral(high), scale_factor=2.0), low], 1))
            found = []
            for head, y in zip(self.heads, (joined, high), strict=True):
                z = head(y)
                n, _, h, w = z.shape
                z = z.view(n, 3, 25, h, w).permute(0, 1, 3, 4, 2).sigmoid()
                found.append(torch.cat([z[..., :2] * 2 - 0.5, (z[..., 2:4] * 2) ** 2, z[..., 4:]], -1).flatten(1, 3))
            return torch.cat(found, 1)

    return Yolo(), (torch.randn(1, 3, 320, 320),)


def _detr() -> tuple[Any, tuple[Any, ...]]:
    """YOLOS: a vision transformer with a hundred detection tokens."""
    import torch
    from transformers import AutoConfig, AutoModelForObjectDetection

    sizes = {"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "intermediate_size": 768}
    config = AutoConfig.for_model("yolos", image_size=[224, 224], **sizes)
    model = AutoModelForObjectDetection.from_config(config, attn_implementation="eager")
    return _First(model, "logits", "pred_boxes"), (torch.randn(1, 3, 224, 224),)


_AUDIO = {"m5": _m5, "crnn": _crnn, "lstm": _lstm, "wav2vec2": _wav2vec2, "whisper-encoder": _whisper}
_DETECTORS: dict[str, Callable[[], tuple[Any, tuple[Any, ...]]]] = {
    "ssdlite320": _torchvision_detector("ssdlite320_mobilenet_v3_large", 320),
    "ssd300": _torchvision_detector("ssd300_vgg16", 300),
    "retinanet-256": _torchvision_detector("retinanet_resnet50_fpn", 256, min_size=256, max_size=256),
    "yolo-320": _yolo,
    "yolos-tiny-224": _detr,
}
