"""PyTorch: image, text and audio networks by both of torch's exporters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from example_models import APART

if TYPE_CHECKING:
    from torch import Tensor, nn


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


def export_logits(transformer: nn.Module, texts: dict[str, Tensor], path: Path) -> None:
    """Write the logits of a model of transformers, which gives them among other things, for `texts`."""
    from torch import nn

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = transformer

        def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
            return self.model(input_ids=input_ids, attention_mask=attention_mask).logits

    export_dynamo(Logits(), tuple(texts.values()), path, input_names=list(texts), output_names=["logits"])


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


def resnet18_cifar10(path: Path) -> None:
    """Export ResNet-18 for 32 × 32 images and ten classes: a small first convolution, no pooling behind it."""
    import torch
    from torchvision.models import resnet18

    model = resnet18(num_classes=10)
    model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
    model.maxpool = torch.nn.Identity()
    export_torchscript(model, image(32, batch=2), path)


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
    from torch import nn
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
    from torch import nn

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
    from torch import nn

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
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=1000,
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=64,
        attn_implementation="eager",
    )
    texts = {"input_ids": torch.randint(0, 1000, (1, 32)), "attention_mask": torch.ones(1, 32, dtype=torch.int64)}
    export_logits(BertForSequenceClassification(config), texts, path)


def gpt_like(path: Path) -> None:
    """Export a small GPT-2 language model, its output projection tied to the embedding."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

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
    texts = {"input_ids": torch.randint(0, 1000, (1, 32))}
    export_logits(GPT2LMHeadModel(config), texts, path)


def llama_cache(path: Path) -> None:
    """Export a two-layer Llama with its key-value cache as inputs and outputs, under the names that optimum gives."""
    import torch
    from torch import nn
    from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=1000,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
    )
    # Of the cache: two heads serve the four of the queries.
    n_layers, n_heads, width = config.num_hidden_layers, config.num_key_value_heads, config.head_dim

    class Decoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = LlamaForCausalLM(config)

        def forward(self, ids: Tensor, mask: Tensor, positions: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
            cache = DynamicCache(config=config)
            for layer in range(n_layers):
                cache.update(past[2 * layer], past[2 * layer + 1], layer)
            found = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache)
            present = [tensor for layer in found.past_key_values.layers for tensor in (layer.keys, layer.values)]
            return found.logits, *present

    pairs = [f"{layer}.{kind}" for layer in range(n_layers) for kind in ("key", "value")]
    pasts, presents = [f"past_key_values.{pair}" for pair in pairs], [f"present.{pair}" for pair in pairs]
    batch, new, cached = 2, 3, 5
    texts = {
        "input_ids": torch.randint(0, config.vocab_size, (batch, new)),
        "attention_mask": torch.ones(batch, cached + new, dtype=torch.int64),
        "position_ids": torch.arange(cached, cached + new).expand(batch, new),
    }
    symbols = ("batch_size", "sequence_length", "past_sequence_length", "total_sequence_length")
    of_batch, of_new, of_past, of_all = map(torch.export.Dim, symbols)
    is_new, is_past = {0: of_batch, 1: of_new}, {0: of_batch, 2: of_past}
    export_dynamo(
        Decoder(),
        (*texts.values(), *(torch.randn(batch, n_heads, cached, width) for _ in pairs)),
        path,
        input_names=[*texts, *pasts],
        output_names=["logits", *presents],
        dynamic_shapes=(is_new, {0: of_batch, 1: of_all}, is_new, tuple(is_past for _ in pairs)),
    )
