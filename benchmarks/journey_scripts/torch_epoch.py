"""One epoch in PyTorch from weights that onnx-ghn loaded: `python torch_epoch.py init.safetensors`."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from drawn import images
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from torch_net import build

net = build()
net.load_state_dict(load_file(sys.argv[1]))
optimizer = torch.optim.AdamW(net.train().parameters(), 1e-3)
x, y = (torch.from_numpy(values) for values in images())
for inputs, labels in zip(x.permute(0, 3, 1, 2).split(50), y.split(50), strict=True):
    optimizer.zero_grad()
    loss = torch.nn.functional.cross_entropy(net(inputs), labels)
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.2f}")
