#!/usr/bin/env bash
# onnxruntime-genai 0.18.0: the model builder puts the head behind the first layer that has as many outputs as there are words.
#
# The builder walks the modules of a model of transformers, and knows the head (lm_head) by its size alone: a Linear layer with
# as many outputs as the vocabulary has words. Where the layers of the MLP are as wide as that (a small model for tests, or one
# with a vocabulary of letters or sounds), the head is made when the first of them is met. It reads the first block then: the
# blocks behind it, and the last norm, reach no logits. Nothing is said; onnxruntime runs the file and gives other logits than
# transformers does. With one word more in the vocabulary the two agree.
#
# Seen on 2026-11-28 with transformers 5.24.0, torch 2.14.1, onnx 1.23.2, onnx-ir 1.1.0 and onnxruntime 1.32.0, Python 3.11,
# Linux x86_64:
#   129 words, MLP of 128: the head reads /model/layers.2/final_norm_layernorm/output_0, logits off by less than 0.0001
#   128 words, MLP of 128: the head reads /model/layers.0/post_attention_layernorm/output_0, logits are others
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet onnxruntime-genai==0.18.0 onnxruntime==1.32.0 transformers==5.24.0 torch==2.14.1 onnx==1.23.2 onnx-ir==1.1.0 numpy==2.4.6
(cd "$folder" && HF_HUB_OFFLINE=1 venv/bin/python -W ignore - <<'PYTHON'
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast


def built(words: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Logits of transformers and of the built file, and what the head reads there."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=words, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )
    net = LlamaForCausalLM(config).eval()
    net.save_pretrained("llama")
    known = {str(number): number for number in range(words)}
    tokenizer = Tokenizer(models.WordLevel(known, unk_token="0"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained("llama")
    command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", "llama", "-o", f"built{words}"]
    subprocess.run([*command, "-p", "fp32", "-e", "cpu", "-c", "cache"], check=True, capture_output=True)
    ids = np.arange(3, 13, dtype=np.int64)[None]
    with torch.no_grad():
        expected = net(torch.from_numpy(ids)).logits.numpy()
    path = f"built{words}/model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    feed = {"input_ids": ids, "attention_mask": np.ones((1, ids.size), np.int64)}
    for given in session.get_inputs():
        if given.name.startswith("past"):
            feed[given.name] = np.zeros((1, 2, 0, 16), np.float32)
    given = session.run(["logits"], feed)[0]
    (head,) = [node for node in onnx.load(path, load_external_data=False).graph.node if "logits" in node.output]
    return expected, given, head.input[0]


for words, reads in (
    (129, "/model/layers.2/final_norm_layernorm/output_0"),
    (128, "/model/layers.0/post_attention_layernorm/output_0"),
):
    expected, given, read = built(words)
    apart = float(np.abs(expected - given).max())
    told = "off by less than 0.0001" if apart < 1e-4 else "are others" if apart > 0.1 else f"off by {apart:.2g}"
    print(f"{words} words, MLP of 128: the head reads {read}, logits {told}")
    assert read == reads, "the builder knows the head by something else now"
    assert told == ("off by less than 0.0001" if words == 129 else "are others")
PYTHON
)
