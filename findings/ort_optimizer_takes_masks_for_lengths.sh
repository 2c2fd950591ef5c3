#!/usr/bin/env bash
# onnxruntime 1.32.0: the optimizer for transformers turns the attention mask of a BERT into a length, so that padding on the left, or
# a mask with holes, gives other outputs than before.
#
# optimize_model(..., "bert") fuses attention into one operator, and by default gives it the sum of the mask over its row: the number of
# tokens that count, from the first on. A mask of ones with zeros behind them means the same in both forms; one that begins with zeros,
# as tokenizers with padding_side="left" make it, or that leaves out words in the middle does not, and nothing is said. With
# FusionOptions.use_raw_attention_mask() all masks give what they gave.
#
# Seen on 2026-11-28 with transformers 5.24.0, torch 2.14.1, onnx 1.23.2, Python 3.11, Linux x86_64; largest difference of outputs of
# tokens that count, which are up to 2.9:
#   by default: zeros behind 0, zeros before 1, a hole 0.9; with the mask as it is: 0 everywhere
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnxruntime==1.32.0 transformers==5.24.0 torch==2.14.1 onnx==1.23.2 onnxscript sympy packaging numpy==2.4.6
(cd "$folder" && HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import numpy as np
import onnxruntime
import torch
from onnxruntime.transformers import optimizer
from onnxruntime.transformers.fusion_options import FusionOptions
from transformers import BertConfig, BertModel

torch.manual_seed(0)
config = BertConfig(
    vocab_size=50, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
    max_position_embeddings=32, attn_implementation="eager",
)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bert = BertModel(config, add_pooling_layer=False)

    def forward(self, ids, kinds, mask):
        return self.bert(input_ids=ids, token_type_ids=kinds, attention_mask=mask).last_hidden_state


net = Net().eval()
for parameter in net.parameters():
    if parameter.ndim > 1:
        torch.nn.init.normal_(parameter, 0, 0.2)
ids = torch.randint(0, 50, (1, 8))
names = ["input_ids", "token_type_ids", "attention_mask"]
example = (ids, torch.zeros_like(ids), torch.ones_like(ids))
torch.onnx.export(net, example, "bert.onnx", dynamo=False, input_names=names, opset_version=17)

for name in ("default", "raw"):
    options = FusionOptions("bert")
    if name == "raw":
        options.use_raw_attention_mask()
    optimized = optimizer.optimize_model("bert.onnx", "bert", 4, 32, options, opt_level=0)
    assert optimized.get_fused_operator_statistics()["Attention"] == 2
    optimized.save_model_to_file(f"{name}.onnx")


def run(path: str, mask: list[int]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = dict(zip(names, (ids.numpy(), np.zeros((1, 8)), np.array([mask])), strict=True))
    feed = {value.name: given[value.name].astype(np.int32 if "int32" in value.type else np.int64) for value in session.get_inputs()}
    counted = np.array(mask, bool)
    return session.run(None, feed)[0][:, counted]  # what stands at padding is nobody's


masks = {"zeros behind": [1] * 5 + [0] * 3, "zeros before": [0] * 3 + [1] * 5, "a hole": [1] * 3 + [0] * 2 + [1] * 3}
for words, mask in masks.items():
    before = run("bert.onnx", mask)
    default, raw = (float(np.abs(run(f"{name}.onnx", mask) - before).max()) for name in ("default", "raw"))
    print(f"{words}: by default {default:.1g}, with the mask as it is {raw:.1g}; largest output {np.abs(before).max():.1f}")
    assert raw < 1e-5, words
    assert (default < 1e-5) == (words == "zeros behind"), words
PYTHON
)
