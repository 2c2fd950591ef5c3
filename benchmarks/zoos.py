"""The models that `coverage.py` measures, as the names that `onnx-ghn export` takes and options of constructors."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["BY_DYNAMO", "SUITES", "TRANSFORMERS", "kind", "targets"]

#: Torch's first exporter runs the model, and takes 12 GB for these.
BY_DYNAMO = ("torchvision:mvit_v2_s",)
SUITES = ("torchvision", "timm", "hf", "keras", "paddle", "flax")

_TEXT = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 500,
}
_T5 = {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 500}
_SEQ2SEQ = {
    "d_model": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "vocab_size": 500,
}
_VISION = {**{k: v for k, v in _TEXT.items() if k != "vocab_size"}, "image_size": 64, "patch_size": 16}
_SOUND = {
    **{k: v for k, v in _TEXT.items() if k != "vocab_size"},
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_KV = {"num_key_value_heads": 2, "head_dim": 16}
#: Small configurations by model type.
TRANSFORMERS: dict[str, dict[str, Any]] = {
    # text encoders
    "bert": _TEXT,
    "roberta": _TEXT,
    "distilbert": {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 500},
    "albert": {**_TEXT, "embedding_size": 32},
    "electra": {**_TEXT, "embedding_size": 32},
    "mpnet": _TEXT,
    "deberta-v2": _TEXT,
    "modernbert": {**_TEXT, "pad_token_id": 0},
    # text decoders
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500},
    "gpt_neox": _TEXT,
    "opt": {**_TEXT, "ffn_dim": 128, "word_embed_proj_dim": 64, "pad_token_id": 0},
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4, "vocab_size": 500},
    "llama": {**_TEXT, **_KV},
    "mistral": {**_TEXT, **_KV},
    "qwen2": {**_TEXT, "num_key_value_heads": 2},
    "gemma": {**_TEXT, **_KV, "pad_token_id": 0},
    "phi": {**_TEXT, "pad_token_id": 0},
    # both
    "t5": _T5,
    "bart": {**_SEQ2SEQ, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    # vision
    "vit": _VISION,
    "deit": _VISION,
    "beit": _VISION,
    "dinov2": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 64, "patch_size": 16},
    "swin": {"image_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (2, 4), "window_size": 4},
    "convnext": {"hidden_sizes": (16, 32, 64, 64), "depths": (1, 1, 1, 1), "image_size": 64},
    "resnet": {"embedding_size": 16, "hidden_sizes": (16, 32), "depths": (1, 1)},
    "segformer": {"hidden_sizes": (16, 32, 32, 64), "depths": (1, 1, 1, 1), "image_size": 64},
    "mobilevit": {"hidden_sizes": (16, 24, 32), "neck_hidden_sizes": (8, 8, 16, 16, 24, 32, 64), "image_size": 64},
    "poolformer": {"hidden_sizes": (16, 32, 32, 64), "depths": (1, 1, 1, 1)},
    # audio
    "wav2vec2": _SOUND,
    "hubert": _SOUND,
    "whisper": {**_SEQ2SEQ, "max_source_positions": 50, "num_mel_bins": 16, "pad_token_id": 0},
    "audio-spectrogram-transformer": {**{k: v for k, v in _VISION.items() if k != "image_size"}, "max_length": 64},
    # several
    "clip": {"text_config": {**_TEXT, "eos_token_id": 1}, "vision_config": _VISION, "projection_dim": 32},
    "siglip": {"text_config": {**_TEXT, "projection_size": 64}, "vision_config": _VISION},
    "blip": {
        "text_config": {**_TEXT, "encoder_hidden_size": 64},
        "vision_config": _VISION,
        "projection_dim": 32,
        "architectures": ["BlipForConditionalGeneration"],
    },
    "vilt": {**_VISION, "vocab_size": 500},
}


def targets(suite: str) -> list[tuple[str, dict[str, Any]]]:
    """Names and options, in the order in which they are measured."""
    if suite == "torchvision":
        return [(f"torchvision:{name}", {}) for name in _torchvision()]
    if suite == "timm":
        return [(f"timm:{name}", {}) for name in _timm()]
    if suite == "hf":
        return [(f"hf:{name}", options) for name, options in TRANSFORMERS.items()]
    if suite == "keras":
        import keras

        names = [name for name in dir(keras.applications) if name[0].isupper()]
        return [(f"keras:{name}", {}) for name in names if callable(getattr(keras.applications, name))]
    if suite == "paddle":
        import paddle

        models = paddle.vision.models
        names = [name for name in dir(models) if re.match("[a-z]", name) and callable(getattr(models, name))]
        return [(f"paddle:{name}", {}) for name in names]
    from flax_models import MODELS

    return [(f"flax:benchmarks/flax_models.py:{name}", {}) for name in MODELS]


def kind(suite: str, name: str) -> str:
    """The row of the table that a model belongs to."""
    if suite != "torchvision":
        return {"hf": "transformers", "keras": "keras.applications", "paddle": "paddle.vision"}.get(suite, suite)
    name = name.partition(":")[2]
    for part, keys in (
        ("detection", ("rcnn", "retinanet", "ssd", "fcos")),
        ("segmentation", ("deeplab", "fcn_", "lraspp")),
        ("optical flow", ("raft",)),
        ("video", ("r3d", "mc3", "r2plus1d", "s3d", "mvit", "swin3d")),
    ):
        if any(key in name for key in keys):
            return f"torchvision {part}"
    return "torchvision classification"


def _torchvision() -> list[str]:
    from torchvision import models

    return [name for name in models.list_models() if not name.startswith("quantized_")]


def _timm() -> list[str]:
    """The smallest model of each family (what stands before the first digit or underscore, and its module)."""
    import timm
    import torch

    smallest: dict[str, tuple[int, str]] = {}
    for module in timm.list_modules():
        for name in timm.list_models(module=module):
            family = f"{module}/{re.split(r'[0-9_]', name)[0]}"
            with torch.device("meta"):
                try:
                    size = sum(p.numel() for p in timm.create_model(name).parameters())
                except (RuntimeError, NotImplementedError, AttributeError):  # does not build without memory
                    continue
            if family not in smallest or size < smallest[family][0]:
                smallest[family] = (size, name)
    return [name for _, name in sorted(set(smallest.values()))]
