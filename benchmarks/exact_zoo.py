"""The modules whose elements `exact_counts.py` counts: of each family the smallest, in a small configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from zoos import TRANSFORMERS

__all__ = ["EXPORTERS", "MODULES", "REASONS", "TF2ONNX_DROPS", "ZOOS", "Module"]

Shapes = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Module:
    """A module, as `onnx_ghn.exporters.registry.resolve` builds it.

    Attributes:
        zoo: whose row of the table it is in.
        target: FRAMEWORK:NAME, or FRAMEWORK:FILE.py:FUNCTION.
        arguments: of the constructor.
        shapes: of its inputs; () for the usual ones.
        calibrates: measure running statistics before outputs are compared. Without, a detector's outputs are so large
            that rounding decides which boxes it suppresses.
    """

    zoo: str
    target: str
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shapes: Shapes = ()
    calibrates: bool = False

    @property
    def name(self) -> str:
        """For tables: without the folder of a file."""
        return self.target.replace("benchmarks/", "")


#: What writes the files of a zoo.
EXPORTERS: Mapping[str, tuple[str, ...]] = {
    "torchvision": ("torchscript", "dynamo"),
    "timm": ("torchscript", "dynamo"),
    "transformers": ("torchscript", "dynamo"),
    "graph, spiking and equivariant": ("torchscript", "dynamo"),
    "keras": ("tf2onnx",),
    "flax": ("jax2onnx",),
    "haiku": ("jax2onnx",),
}
ZOOS = tuple(EXPORTERS)

_SMALL = "torch:benchmarks/small_networks.py"
_FEW = {"num_classes": 10}
#: Of flax_models.py, which imports JAX.
_FLAX = (
    *("mlp", "resnet", "convnext", "mobilenet", "densenet", "unet", "vit", "mixer", "decoder"),
    *("linen_resnet", "linen_transformer"),
)


def _images(size: int, names: str, library: str, **arguments: Any) -> Iterator[Module]:
    for name in names.split():
        yield Module(library, f"{library}:{name}", {**_FEW, **arguments}, ((1, 3, size, size),))


def _torchvision() -> Iterator[Module]:
    yield from _images(64, "resnet18 resnet50 resnext50_32x4d densenet121", "torchvision")
    yield from _images(64, "squeezenet1_0 squeezenet1_1 shufflenet_v2_x0_5 shufflenet_v2_x1_0", "torchvision")
    yield from _images(64, "mobilenet_v2 mobilenet_v3_small mobilenet_v3_large mnasnet0_5 mnasnet1_0", "torchvision")
    yield from _images(64, "efficientnet_b0 efficientnet_b1 efficientnet_v2_s", "torchvision")
    yield from _images(64, "regnet_x_400mf regnet_y_400mf regnet_x_800mf regnet_y_800mf", "torchvision")
    yield from _images(64, "convnext_tiny swin_t swin_v2_t", "torchvision")
    yield from _images(64, "googlenet", "torchvision", init_weights=False, aux_logits=False)
    yield from _images(96, "inception_v3", "torchvision", init_weights=False, aux_logits=False)
    yield from _images(64, "lraspp_mobilenet_v3_large deeplabv3_mobilenet_v3_large", "torchvision")
    yield from _images(64, "fcn_resnet50", "torchvision")
    for name in ("alexnet", "vgg_bn", "vit", "maxvit", "swin3d", "mvit", "mvit_v2", "video_resnet", "r2plus1d", "s3d"):
        yield Module("torchvision", f"{_SMALL}:{name}")
    yield Module("torchvision", "torchvision:ssdlite320_mobilenet_v3_large", _FEW, calibrates=True)
    yield Module("torchvision", "torchvision:raft_small")


def _timm() -> Iterator[Module]:
    for name, arguments in {
        "nf_regnet_b0": {},
        "eca_nfnet_l0": {},
        "test_nfnet": {},
        "mobileone_s0": {},
        "repvgg_a0": {},
        "ghostnet_050": {},
        "lcnet_050": {},
        "tinynet_e": {},
        "convnext_atto": {},
        "convnextv2_atto": {},
        "inception_next_atto": {},
        "starnet_s1": {},
        "mambaout_femto": {},
        "skresnet18": {},
        "resnest14d": {},
        "dla46_c": {},
        "poolformer_s12": {},
        "pvt_v2_b0": {},
        "mobilenetv4_conv_small": {},
        "efficientvit_b0": {},
        "fastvit_t8": {},
        "hgnetv2_b0": {},
        "edgenext_xx_small": {},
        "repvit_m0_9": {},
        "mobilevit_xxs": {},
        "mobilevitv2_050": {},
    }.items():
        yield Module("timm", f"timm:{name}", {**_FEW, **arguments}, ((1, 3, 64, 64),))
    for name, arguments in {  # their tables of positions have the size of the image
        "hiera_tiny_224": {"img_size": 64, "stages": (1, 1, 2, 1)},
        "xcit_nano_12_p16_224": {"img_size": 64, "depth": 3},
        "sequencer2d_s": {"img_size": 64, "layers": (1, 1, 2, 1)},
        "levit_128s": {"img_size": 64, "depth": (1, 1, 1)},
        "resmlp_12_224": {"img_size": 64},
        "gmixer_12_224": {"img_size": 64},
        "gmlp_ti16_224": {"img_size": 64},
        "cait_xxs24_224": {"img_size": 64, "depth": 2},
        "coat_lite_tiny": {"img_size": 64},
        "tnt_s_legacy_patch16_224": {"img_size": 64, "depth": 2},
        "pit_ti_224": {"img_size": 64, "depth": (1, 1, 1)},
        "eva02_tiny_patch14_224": {"img_size": 56, "depth": 2},
        "convit_tiny": {"img_size": 64, "depth": 12},
        "beit_base_patch16_224": {"img_size": 64, "depth": 2, "embed_dim": 192, "num_heads": 3},
    }.items():
        size = arguments["img_size"]
        yield Module("timm", f"timm:{name}", {**_FEW, **arguments}, ((1, 3, size, size),))


def _transformers() -> Iterator[Module]:
    text = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "vocab_size": 500,
        "pad_token_id": 0,
    }
    keys = {**text, "num_key_value_heads": 2, "head_dim": 16}
    small: dict[str, dict[str, Any]] = {
        "mamba": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 500, "state_size": 8},
        "mamba2": {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "vocab_size": 500,
            "state_size": 16,
            "num_heads": 8,
            "head_dim": 16,
            "n_groups": 1,
            "chunk_size": 8,
        },
        "mixtral": {**keys, "num_local_experts": 4, "architectures": ["MixtralForCausalLM"]},
        "gpt_oss": {**keys, "num_local_experts": 4, "num_experts_per_tok": 2, "architectures": ["GptOssForCausalLM"]},
        "qwen3_next": {
            **keys,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "shared_expert_intermediate_size": 32,
            "linear_num_key_heads": 2,
            "linear_num_value_heads": 4,
            "linear_key_head_dim": 16,
            "linear_value_head_dim": 16,
            "num_hidden_layers": 4,
        },
        "deepseek_v3": {
            **text,
            "num_key_value_heads": 4,
            "kv_lora_rank": 16,
            "q_lora_rank": 32,
            "qk_rope_head_dim": 8,
            "qk_nope_head_dim": 8,
            "v_head_dim": 16,
            "n_routed_experts": 4,
            "num_experts_per_tok": 2,
            "moe_intermediate_size": 32,
            "n_group": 2,
            "topk_group": 1,
            "first_k_dense_replace": 1,
        },
        "gemma3_text": {**keys, "architectures": ["Gemma3ForCausalLM"]},
        "qwen3": {**keys, "architectures": ["Qwen3ForCausalLM"]},
        "phi3": keys,
        "xlnet": {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, "vocab_size": 500},
        "rwkv": {"hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 500, "attention_hidden_size": 64},
        "convnextv2": {"hidden_sizes": (16, 32, 64, 64), "depths": (1, 1, 1, 1), "image_size": 64},
    }
    known = (
        *("deberta-v2", "t5", "whisper", "modernbert", "bert", "gpt2", "llama"),
        *("bart", "clip", "vit", "swin", "wav2vec2", "dinov2"),
    )
    for name, arguments in {**small, **{name: TRANSFORMERS[name] for name in known}}.items():
        yield Module("transformers", f"hf:{name}", arguments)


def _others() -> Iterator[Module]:
    for name in (
        *("gcn", "gat", "graph_sage", "gin", "pna", "edge_cnn", "graph_transformer"),
        *("leaky_spikes", "synaptic_spikes", "alpha_spikes", "recurrent_spikes", "spiking_convolutions"),
        *("equivariant_linear", "equivariant_products", "equivariant_convolution"),
    ):
        yield Module("graph, spiking and equivariant", f"{_SMALL}:{name}")


def _keras() -> Iterator[Module]:
    images = {"input_shape": (64, 64, 3), "classes": 10}
    for name, arguments in {
        "MobileNet": {"alpha": 0.25},
        "MobileNetV2": {"alpha": 0.35},
        "MobileNetV3Small": {},
        "EfficientNetB0": {},
        "EfficientNetV2B0": {},
        "DenseNet121": {},
        "NASNetMobile": {},
    }.items():
        yield Module("keras", f"keras:{name}", {**images, **arguments})
    for name in ("norms", "recurrent", "attention", "separable", "volumes", "sequences", "slopes"):
        yield Module("keras", f"keras:benchmarks/keras_networks.py:{name}")


def _jax() -> Iterator[Module]:
    for name in _FLAX:
        yield Module("flax", f"flax:benchmarks/flax_models.py:{name}")
    for name in ("mlp", "resnet", "mobilenet", "transformer", "recurrent"):
        yield Module("haiku", f"flax:benchmarks/haiku_networks.py:{name}")


MODULES: tuple[Module, ...] = (*_torchvision(), *_timm(), *_transformers(), *_others(), *_keras(), *_jax())

_UNTOLD = "without notes nothing tells it from a constant: it is listed as what may be learned, and keeps its values"
_UNREADABLE = "torch's first exporter writes a file that no runtime loads"
_THIN_BIAS = (
    "onnxscript 0.7.2 adds a bias of two axes to a three-dimensional convolution that has none (its issue 2931), which "
    "no runtime runs"
)
_SPIKES = "torch's first exporter cannot write a threshold that is made of a parameter in the forward pass"

#: Why a fresh Keras model has fewer elements in a file without notes.
TF2ONNX_DROPS = "tf2onnx leaves out a fresh network's biases, which are zero, and merges vectors that are equal"

#: Why the counts of a module and an exporter are not equal, or are not there.
REASONS: Mapping[tuple[str, str], str] = {
    **{
        (f"torch:small_networks.py:{name}", "dynamo"): _THIN_BIAS
        for name in ("mvit", "mvit_v2", "video_resnet", "r2plus1d", "s3d")
    },
    ("torchvision:ssdlite320_mobilenet_v3_large", "dynamo"): (
        "torch 2.14.1's second exporter stops at the number of boxes, which the data decide"
    ),
    ("hf:mamba", "torchscript"): f"`A_log`, whose exponential the data are multiplied by: {_UNTOLD}",
    ("hf:clip", "torchscript"): f"`logit_scale`, a single number: {_UNTOLD}",
    ("hf:deepseek_v3", "torchscript"): (
        "without notes a buffer that is added to the router's scores reads as a bias: this exporter does not say "
        "which of its initializers are buffers"
    ),
    ("hf:whisper", "dynamo"): (
        "the encoder's table of sines is a parameter that requires no gradient: notes say that, and the exporter's "
        "own marks do not"
    ),
    (
        "hf:rwkv",
        "torchscript",
    ): "outputs are not compared: this exporter drops the mask, an input that the computation does not use",
    ("timm:hiera_tiny_224", "dynamo"): (
        "onnxscript 0.7.2 takes attention over queries of four axes alone, and Hiera's have five"
    ),
    ("timm:hgnetv2_b0", "torchscript"): f"scales and shifts that are single numbers: {_UNTOLD}",
    ("timm:convit_tiny", "torchscript"): (
        "projections of positions begin as whole numbers and multiply a grid alone: without notes they read as one"
    ),
    ("timm:eva02_tiny_patch14_224", "torchscript"): "torch's first exporter cannot trace its fused attention",
    ("torch:small_networks.py:alpha_spikes", "dynamo"): (
        "the second threshold decides resets alone, through which no gradient comes; the file computes with it"
    ),
    ("hf:mamba2", "torchscript"): _UNREADABLE,
    ("hf:qwen3_next", "torchscript"): "torch's first exporter does not know `linalg_solve_triangular`",
    ("hf:whisper", "torchscript"): "torch's first exporter does not know `diff`",
    ("hf:xlnet", "dynamo"): "torch's second exporter finds no overload of `sub` for its mask",
    ("torch:small_networks.py:gin", "torchscript"): f"`eps`, single numbers: {_UNTOLD}",
    ("torch:small_networks.py:pna", "torchscript"): _UNREADABLE,
    ("torch:small_networks.py:edge_cnn", "torchscript"): _UNREADABLE,
    ("torch:small_networks.py:graph_transformer", "torchscript"): _UNREADABLE,
    ("torch:small_networks.py:leaky_spikes", "torchscript"): _SPIKES,
    ("torch:small_networks.py:synaptic_spikes", "torchscript"): _SPIKES,
    ("torch:small_networks.py:alpha_spikes", "torchscript"): _SPIKES,
    ("torch:small_networks.py:recurrent_spikes", "torchscript"): _SPIKES,
    ("torch:small_networks.py:spiking_convolutions", "torchscript"): _SPIKES,
    ("torch:small_networks.py:equivariant_linear", "torchscript"): (
        "torch's first exporter takes the compiled layer's output for a constant: the file has no input any more"
    ),
    ("torch:small_networks.py:equivariant_products", "torchscript"): (
        "without notes the 3j symbols, which are buffers, read as weights of their Einsum"
    ),
    ("torch:small_networks.py:equivariant_convolution", "torchscript"): (
        "torch's first exporter cannot write `index_add` with an index that repeats"
    ),
    (
        "keras:keras_networks.py:norms",
        "tf2onnx",
    ): f"{TF2ONNX_DROPS}; gains of group norms as Keras writes them: {_UNTOLD}",
    ("keras:keras_networks.py:slopes", "tf2onnx"): (
        "TensorFlow 2.21.0 multiplies the gains by a single number that is learned, too, before anything is written; "
        "of a fresh network, where it is one, `export` refuses that"
    ),
    ("flax:haiku_networks.py:resnet", "jax2onnx"): (
        "outputs are not compared: jax2onnx 0.17.1 writes haiku's pooling as one over four axes, which onnxruntime "
        "does not run"
    ),
    ("flax:haiku_networks.py:transformer", "jax2onnx"): (
        "with inputs of fixed sizes jax2onnx folds haiku's broadcasts: each bias is stored once for every token; with "
        "notes the copies are one"
    ),
    ("flax:haiku_networks.py:recurrent", "jax2onnx"): (
        "jax2onnx stores the bias of an unrolled layer once for each step, and the zeros that it starts from; with "
        "notes the copies are one"
    ),
}
