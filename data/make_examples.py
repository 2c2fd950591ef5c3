"""Export the example models with their own frameworks, and strip them into data/examples.

    python data/make_examples.py torch --raw-dir RAW    # in an environment that has the framework
    python data/make_examples.py keras --raw-dir RAW    # also: flax, paddle
    python data/make_examples.py strip --raw-dir RAW    # in an environment that has onnx_ghn

The first kind of call writes RAW/<name>.onnx with full, untrained, seeded weights, one file per
model of that framework; each file is checked and run once. The exporters are asked to leave the
network as it was written: no constants folded, BatchNormalization kept. Where an exporter would
make one tensor of several equal ones (as the scales and biases of fresh normalizations are), the
weights are first moved a little apart. The second kind of call removes the weights from each of the
files and writes data/examples/<name>.onnx. What each framework needs installed:

    torch   torch torchvision transformers onnx onnxscript onnxruntime
    keras   tensorflow-cpu tf2onnx onnxruntime
    flax    flax jax2onnx onnxruntime
    paddle  paddlepaddle paddle2onnx onnxruntime
"""

from __future__ import annotations

import argparse
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

EXAMPLES = Path(__file__).parent / "examples"
FRAMEWORKS = ("torch", "keras", "flax", "paddle")
SEED = 0
APART = 1e-3  # how far weights are moved where equal ones would be merged
MAX_STRIPPED_BYTES = 80 * 1024


# ---------------------------------------------------------------------------- torch


def export_dynamo(model: nn.Module, args: tuple[Any, ...], path: Path, **options: Any) -> None:
    """Write a PyTorch model with the torch.export-based exporter, nothing folded or fused."""
    import torch

    torch.onnx.export(
        model.eval(),
        args,
        path,
        dynamo=True,
        optimize=False,
        external_data=False,
        verbose=False,
        **options,
    )


def export_torchscript(model: nn.Module, args: tuple[Any, ...], path: Path) -> None:
    """Write a PyTorch model with the TorchScript exporter, batch size free, nothing folded."""
    import torch

    with torch.no_grad():  # this exporter merges equal tensors
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                tensor += APART * torch.rand_like(tensor)
    torch.onnx.export(
        model.eval(),
        args,
        path,
        dynamo=False,
        training=torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=False,
        input_names=["input"],
        output_names=["output"],
        dynamic_axes={"input": {0: "batch"}, "output": {0: "batch"}},
    )


def image(size: int, batch: int = 1) -> tuple[Any]:
    """Return the one argument of an image network in PyTorch."""
    import torch

    return (torch.randn(batch, 3, size, size),)


def resnet50_torch_dynamo(path: Path) -> None:
    """Export ResNet-50 by the new exporter."""
    from torchvision.models import resnet50

    export_dynamo(resnet50(), image(224), path)


def resnet50_torchscript(path: Path) -> None:
    """Export ResNet-50 by the old exporter."""
    from torchvision.models import resnet50

    export_torchscript(resnet50(), image(224, batch=2), path)


def vit_small_torch(path: Path) -> None:
    """Export a small vision transformer by the new exporter."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(
        image_size=64,
        patch_size=16,
        num_layers=4,
        num_heads=4,
        hidden_dim=128,
        mlp_dim=256,
    )
    export_dynamo(model, image(64), path)


def detector_fpn(path: Path) -> None:
    """Export RetinaNet on ResNet-18 up to its raw class scores and box offsets."""
    from torch import Tensor, nn
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops.feature_pyramid_network import LastLevelP6P7

    class Detector(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = resnet_fpn_backbone(
                backbone_name="resnet18",
                weights=None,
                norm_layer=nn.BatchNorm2d,
                trainable_layers=5,
                returned_layers=[2, 3, 4],
                extra_blocks=LastLevelP6P7(256, 256),
            )
            self.head = RetinaNetHead(self.backbone.out_channels, num_anchors=9, num_classes=91)

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            outputs = self.head(list(self.backbone(images).values()))
            return outputs["cls_logits"], outputs["bbox_regression"]

    names = {"input_names": ["images"], "output_names": ["cls_logits", "bbox_regression"]}
    export_dynamo(Detector(), image(224), path, **names)


def audio_m5(path: Path) -> None:
    """Export M5, the raw-waveform network of torchaudio's speech-commands tutorial."""
    import torch
    from torch import Tensor, nn

    class M5(nn.Module):
        def __init__(self, classes: int = 35, width: int = 32) -> None:
            super().__init__()
            self.conv1 = nn.Conv1d(1, width, 80, stride=16)
            self.bn1 = nn.BatchNorm1d(width)
            self.pool1 = nn.MaxPool1d(4)
            self.conv2 = nn.Conv1d(width, width, 3)
            self.bn2 = nn.BatchNorm1d(width)
            self.pool2 = nn.MaxPool1d(4)
            self.conv3 = nn.Conv1d(width, 2 * width, 3)
            self.bn3 = nn.BatchNorm1d(2 * width)
            self.pool3 = nn.MaxPool1d(4)
            self.conv4 = nn.Conv1d(2 * width, 2 * width, 3)
            self.bn4 = nn.BatchNorm1d(2 * width)
            self.pool4 = nn.MaxPool1d(4)
            self.fc1 = nn.Linear(2 * width, classes)

        def forward(self, wave: Tensor) -> Tensor:
            wave = self.pool1(self.bn1(self.conv1(wave)).relu())
            wave = self.pool2(self.bn2(self.conv2(wave)).relu())
            wave = self.pool3(self.bn3(self.conv3(wave)).relu())
            wave = self.pool4(self.bn4(self.conv4(wave)).relu())
            wave = nn.functional.avg_pool1d(wave, int(wave.shape[-1]))
            return self.fc1(wave.permute(0, 2, 1)).log_softmax(dim=2)

    export_torchscript(M5(), (torch.randn(2, 1, 8000),), path)


def lstm_text(path: Path) -> None:
    """Export a text classifier with a two-layer bidirectional LSTM."""
    import torch
    from torch import Tensor, nn

    class TextClassifier(nn.Module):
        def __init__(self, words: int = 1000, width: int = 64, classes: int = 4) -> None:
            super().__init__()
            self.embedding = nn.Embedding(words, width)
            self.lstm = nn.LSTM(width, width, num_layers=2, bidirectional=True, batch_first=True)
            self.fc = nn.Linear(2 * width, classes)

        def forward(self, tokens: Tensor) -> Tensor:
            states, _ = self.lstm(self.embedding(tokens))
            return self.fc(states.mean(dim=1))

    export_torchscript(TextClassifier(), (torch.randint(0, 1000, (1, 32)),), path)


def bert_like(path: Path) -> None:
    """Export a small BERT sentence classifier."""
    import torch
    from torch import Tensor, nn
    from transformers import BertConfig, BertForSequenceClassification

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = BertConfig(
                vocab_size=1000,
                hidden_size=128,
                num_hidden_layers=4,
                num_attention_heads=4,
                intermediate_size=512,
                max_position_embeddings=64,
                attn_implementation="eager",
            )
            self.model = BertForSequenceClassification(config)

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    args = (torch.randint(0, 1000, (1, 32)), torch.ones(1, 32, dtype=torch.int64))
    names = {"input_names": ["input_ids", "attention_mask"], "output_names": ["logits"]}
    export_dynamo(Logits(), args, path, **names)


def gpt_like(path: Path) -> None:
    """Export a small GPT-2 language model, its output projection tied to the embedding."""
    import torch
    from torch import Tensor, nn
    from transformers import GPT2Config, GPT2LMHeadModel

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            config = GPT2Config(
                vocab_size=1000,
                n_positions=64,
                n_embd=128,
                n_layer=4,
                n_head=4,
                bos_token_id=0,
                eos_token_id=0,
                use_cache=False,
                attn_implementation="eager",
            )
            self.model = GPT2LMHeadModel(config)

        def forward(self, input_ids: Tensor) -> Tensor:
            return self.model(input_ids=input_ids, use_cache=False).logits

    args = (torch.randint(0, 1000, (1, 32)),)
    names = {"input_names": ["input_ids"], "output_names": ["logits"]}
    export_dynamo(Logits(), args, path, **names)


# ---------------------------------------------------------------------------- keras


def keep_batch_normalization() -> None:
    """Have Keras and tf2onnx export BatchNormalization as such, unfused.

    Keras computes it from elementary operators, whose constants TensorFlow then folds into the
    convolution before; tf2onnx folds the fused operator likewise. Neither has an option for it.
    """
    import tensorflow as tf
    from keras.src.backend.tensorflow import nn
    from tf2onnx.optimizer import back_to_back_optimizer

    def fused(
        x: tf.Tensor,
        mean: tf.Tensor,
        variance: tf.Tensor,
        axis: int,
        offset: tf.Tensor,
        scale: tf.Tensor,
        epsilon: float,
    ) -> tf.Tensor:
        if axis not in (-1, 3) or len(x.shape) != 4:
            raise NotImplementedError("only for images with the channels last")
        return tf.compat.v1.nn.fused_batch_norm(
            x, scale, offset, mean, variance, epsilon, is_training=False
        )[0]

    nn.batch_normalization = fused
    back_to_back_optimizer._func_map.pop(("Conv", "BatchNormalization"), None)


def mobilenet_keras(path: Path) -> None:
    """Export MobileNetV2 of keras.applications."""
    import keras
    import numpy as np

    keep_batch_normalization()
    model = keras.applications.MobileNetV2(weights=None, name="net")
    rng = np.random.default_rng(SEED)
    for weight in model.weights:  # tf2onnx merges equal tensors
        weight.assign_add(APART * rng.random(weight.shape, dtype="float32"))
    model(np.zeros((1, *model.input_shape[1:]), dtype="float32"))  # export wants it called once
    model.export(str(path), format="onnx", verbose=False)


# ---------------------------------------------------------------------------- flax


def convnet_flax(path: Path) -> None:
    """Export a CIFAR network: a ResNet stage with BatchNorm, then a ConvNeXt stage."""
    import jax
    from flax import nnx
    from jax2onnx import to_onnx

    class Residual(nnx.Module):
        def __init__(self, width: int, rngs: nnx.Rngs) -> None:
            self.conv1 = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
            self.norm1 = nnx.BatchNorm(width, rngs=rngs)
            self.conv2 = nnx.Conv(width, width, (3, 3), use_bias=False, rngs=rngs)
            self.norm2 = nnx.BatchNorm(width, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            y = nnx.relu(self.norm1(self.conv1(x)))
            return nnx.relu(x + self.norm2(self.conv2(y)))

    class ConvNeXt(nnx.Module):
        def __init__(self, width: int, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(width, width, (7, 7), feature_group_count=width, rngs=rngs)
            self.norm = nnx.LayerNorm(width, rngs=rngs)
            self.fc1 = nnx.Linear(width, 4 * width, rngs=rngs)
            self.fc2 = nnx.Linear(4 * width, width, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return x + self.fc2(nnx.gelu(self.fc1(self.norm(self.conv(x)))))

    class ConvNet(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.stem = nnx.Conv(3, 32, (3, 3), use_bias=False, rngs=rngs)
            self.norm = nnx.BatchNorm(32, rngs=rngs)
            self.stage1 = nnx.List([Residual(32, rngs) for _ in range(3)])
            self.down = nnx.Conv(32, 64, (2, 2), strides=(2, 2), rngs=rngs)
            self.stage2 = nnx.List([ConvNeXt(64, rngs) for _ in range(3)])
            self.head_norm = nnx.LayerNorm(64, rngs=rngs)
            self.head = nnx.Linear(64, 10, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            x = nnx.relu(self.norm(self.stem(x)))
            for block in self.stage1:
                x = block(x)
            x = self.down(x)
            for block in self.stage2:
                x = block(x)
            return self.head(self.head_norm(x.mean(axis=(1, 2))))

    model = ConvNet(nnx.Rngs(SEED))
    model.eval()
    to_onnx(model, [("batch", 32, 32, 3)], return_mode="file", output_path=str(path))


# ---------------------------------------------------------------------------- paddle


def resnet18_paddle(path: Path) -> None:
    """Export ResNet-18 of paddle.vision.

    These are the two steps of paddle.onnx.export, which itself always has Polygraphy fold the
    constants (and has that install its own dependencies by pip).
    """
    import paddle
    import paddle2onnx

    model = paddle.vision.models.resnet18(pretrained=False)
    model.eval()
    spec = paddle.static.InputSpec([None, 3, 224, 224], "float32", "image")
    with tempfile.TemporaryDirectory() as folder:
        saved = Path(folder, "model")
        paddle.jit.save(model, str(saved), [spec])
        paddle2onnx.export(
            str(saved.with_suffix(".json")),
            str(saved.with_suffix(".pdiparams")),
            str(path),
            opset_version=17,
            optimize_tool="None",
        )


# ---------------------------------------------------------------------------- the table


@dataclasses.dataclass(frozen=True)
class Example:
    """One example model.

    Attributes:
        name: The stem of its files.
        framework: One of FRAMEWORKS.
        build: Writes the model with its weights to a path.
        origin: What it is and which exporter wrote it, in one line.
    """

    name: str
    framework: str
    build: Callable[[Path], None]
    origin: str


TORCH_NEW = "torch.onnx.export(dynamo=True, optimize=False)"
TORCH_OLD = "torch.onnx.export(dynamo=False)"

TABLE = tuple(
    Example(build.__name__, framework, build, origin)
    for build, framework, origin in (
        (resnet50_torch_dynamo, "torch", f"torchvision ResNet-50; {TORCH_NEW}"),
        (resnet50_torchscript, "torch", f"torchvision ResNet-50; {TORCH_OLD}"),
        (vit_small_torch, "torch", f"torchvision VisionTransformer, small; {TORCH_NEW}"),
        (detector_fpn, "torch", f"torchvision RetinaNet, ResNet-18 with FPN; {TORCH_NEW}"),
        (audio_m5, "torch", f"M5 of the torchaudio speech tutorial; {TORCH_OLD}"),
        (lstm_text, "torch", f"Embedding, bidirectional LSTM, Linear; {TORCH_OLD}"),
        (bert_like, "torch", f"transformers BERT classifier, small; {TORCH_NEW}"),
        (gpt_like, "torch", f"transformers GPT-2, small; {TORCH_NEW}"),
        (mobilenet_keras, "keras", "keras.applications MobileNetV2; Model.export (tf2onnx)"),
        (convnet_flax, "flax", "Flax nnx ResNet and ConvNeXt blocks; jax2onnx"),
        (resnet18_paddle, "paddle", "paddle.vision ResNet-18; paddle2onnx.export"),
    )
)


# ---------------------------------------------------------------------------- doing it


def seed(framework: str) -> None:
    """Fix the random initial weights (Flax takes its seed in the model itself)."""
    if framework == "torch":
        import torch

        torch.manual_seed(SEED)
    elif framework == "keras":
        import keras

        keras.utils.set_random_seed(SEED)
    elif framework == "paddle":
        import paddle

        paddle.seed(SEED)


def random_input(value: Any, rng: np.random.Generator) -> np.ndarray:
    """Draw an input for an onnxruntime graph input; free dimensions are 1, integers 0 or 1."""
    shape = [dim if isinstance(dim, int) else 1 for dim in value.shape]
    if value.type == "tensor(int64)":
        return rng.integers(0, 2, shape)
    return rng.standard_normal(shape, dtype="float32")


def check(path: Path) -> str:
    """Check the file, run it once and return what is in it in a line; raise if it is not sound."""
    import numpy as np
    import onnx
    import onnxruntime

    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(SEED)
    inputs = {value.name: random_input(value, rng) for value in session.get_inputs()}
    outputs = session.run(None, inputs)
    if not all(np.isfinite(output).all() for output in outputs):
        raise ValueError(f"{path}: the outputs are not finite")
    counts = Counter(node.op_type for node in onnx.load(path).graph.node)
    ops = ", ".join(f"{op} {count}" for op, count in counts.most_common(6))
    return f"{path.stat().st_size / 2**20:.1f} MB, {counts.total()} nodes ({ops})"


def export(framework: str, raw_dir: Path, only: list[str]) -> None:
    """Write, check and run the models of one framework."""
    raw_dir.mkdir(parents=True, exist_ok=True)
    for example in TABLE:
        if example.framework == framework and (not only or example.name in only):
            path = raw_dir / f"{example.name}.onnx"
            seed(framework)
            example.build(path)
            print(f"{example.name}: {check(path)}", flush=True)


def strip(raw_dir: Path, only: list[str]) -> None:
    """Write each raw model without its weights into data/examples."""
    import onnx_ghn

    EXAMPLES.mkdir(parents=True, exist_ok=True)
    for example in TABLE:
        if not only or example.name in only:
            path = EXAMPLES / f"{example.name}.onnx"
            onnx_ghn.strip(raw_dir / path.name, path, force=True)
            size = path.stat().st_size
            print(f"{example.name}: {size} bytes", flush=True)
            if size >= MAX_STRIPPED_BYTES:
                raise ValueError(f"{path}: {size} bytes; an example must be < {MAX_STRIPPED_BYTES}")


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Make the example models.")
    parser.add_argument("what", choices=(*FRAMEWORKS, "strip"))
    parser.add_argument("--raw-dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--only", nargs="*", default=[], choices=[e.name for e in TABLE])
    options = parser.parse_args()
    if options.what == "strip":
        strip(options.raw_dir, options.only)
    else:
        export(options.what, options.raw_dir, options.only)


if __name__ == "__main__":
    main()
