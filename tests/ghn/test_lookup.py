"""Lookup tables: drawn like torch's, but not where there is nothing to draw into."""

import subprocess
import sys

import torch
from torch import nn

from onnx_ghn.ghn.lookup import LookupTable


def test_values_are_drawn_as_torch_draws_them() -> None:
    torch.manual_seed(3)
    ours = LookupTable(11, 5)
    torch.manual_seed(3)
    assert torch.equal(ours.weight, nn.Embedding(11, 5).weight)


def test_a_checkpoint_is_loaded_without_torchs_compiler() -> None:
    code = "import sys, onnx_ghn; onnx_ghn.load_ghn('ghn-cifar10'); print('torch._dynamo' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == "False"
