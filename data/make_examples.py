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
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from example_models import SEED
from example_models.other_models import convnet_flax, mobilenet_keras, resnet18_paddle
from example_models.torch_models import (
    audio_m5,
    bert_like,
    detector_fpn,
    gpt_like,
    llama_cache,
    lstm_text,
    resnet18_cifar10,
    resnet50_torch_dynamo,
    resnet50_torchscript,
    vit_small_torch,
)

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

EXAMPLES = Path(__file__).parent / "examples"
FRAMEWORKS = ("torch", "keras", "flax", "paddle")
MAX_STRIPPED_BYTES = 80 * 1024


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
        (resnet18_cifar10, "torch", f"torchvision ResNet-18 for CIFAR-10; {TORCH_OLD}"),
        (vit_small_torch, "torch", f"torchvision VisionTransformer, small; {TORCH_NEW}"),
        (detector_fpn, "torch", f"torchvision RetinaNet, ResNet-18 with FPN; {TORCH_NEW}"),
        (audio_m5, "torch", f"M5 of the torchaudio speech tutorial; {TORCH_OLD}"),
        (lstm_text, "torch", f"Embedding, bidirectional LSTM, Linear; {TORCH_OLD}"),
        (bert_like, "torch", f"transformers BERT classifier, small; {TORCH_NEW}"),
        (gpt_like, "torch", f"transformers GPT-2, small; {TORCH_NEW}"),
        (llama_cache, "torch", f"transformers Llama, small, with a key-value cache as optimum names it; {TORCH_NEW}"),
        (mobilenet_keras, "keras", "keras.applications MobileNetV2; Model.export (tf2onnx)"),
        (convnet_flax, "flax", "Flax nnx ResNet and ConvNeXt blocks; jax2onnx"),
        (resnet18_paddle, "paddle", "paddle.vision ResNet-18; paddle2onnx.export"),
    )
)


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


def random_input(value: onnxruntime.NodeArg, rng: np.random.Generator) -> np.ndarray:
    """Draw an input for an onnxruntime graph input; free dimensions are 1 (totals 2), integers 0 or 1."""
    shape = [dim if isinstance(dim, int) else 1 + str(dim).startswith("total") for dim in value.shape]
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
