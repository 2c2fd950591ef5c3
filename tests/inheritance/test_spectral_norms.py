"""Networks whose weights are divided by their largest singular values, and networks that were pruned, as donors."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import torch
from growing_nets import exported, grow, run
from torch import nn
from torch.nn.utils import prune, spectral_norm

import onnx_ghn
from onnx_ghn.onnx_io import stored_tensors

X = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def judge(width: int) -> nn.Module:
    """A discriminator, after a few steps of the power iteration."""
    torch.manual_seed(width)
    layers = (
        spectral_norm(nn.Conv2d(3, width, 3, padding=1)),
        nn.LeakyReLU(0.1),
        spectral_norm(nn.ConvTranspose2d(width, width, 4, 2, 1)),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        spectral_norm(nn.Linear(4 * width, 5)),
    )
    module = nn.Sequential(*layers).train()
    for _ in range(20):
        module(X)
    return module.eval()


def test_vectors_are_copied_with_the_weights(tmp_path: Path) -> None:
    grown = grow(tmp_path, judge(8), judge(8), X)
    assert grown.error == 0
    assert grown.inheritance.is_exact


def test_wider_weights_are_divided_by_their_own_norms(tmp_path: Path) -> None:
    """The largest singular values are others, which is said; outputs are of the donor's size."""
    donor, recipient = exported(judge(8), X), exported(judge(16), X)
    onnx.save(donor, tmp_path / "donor.onnx")
    prediction = onnx_ghn.predict(recipient, donors=[tmp_path / "donor.onnx"])
    tensors = {name: tensor.numpy() for name, tensor in stored_tensors(prediction.model).items()}
    for layer in ("0", "2", "5"):
        weight, u, v = (tensors[f"{layer}.weight_{part}"] for part in ("orig", "u", "v"))
        weight = weight.swapaxes(0, 1) if layer == "2" else weight
        matrix = weight.reshape(len(weight), -1).astype(np.float64)
        np.testing.assert_allclose(u @ matrix @ v, np.linalg.norm(matrix, 2), rtol=1e-4)
    assert prediction.coverage.count("inherited") == 6
    notes = "\n".join(prediction.coverage.notes)
    assert "0.weight_orig is divided by its largest singular value, which has changed" in notes
    assert "not inherited" not in notes
    prediction.save(tmp_path / "grown.onnx")
    size = np.abs(run(donor, (X,))).max()
    assert size / 4 < np.abs(run(str(tmp_path / "grown.onnx"), (X,))).max() < 4 * size


def test_a_pruned_donor_gives_its_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 144, 5))
    donor = copy.deepcopy(plain)
    for module in (donor, plain):
        prune.l1_unstructured(module[2], "weight", 0.5)
    names = {tensor.name for tensor in exported(donor, X).graph.initializer}
    assert {"2.weight_orig", "2.weight_mask"} <= names
    grown = grow(tmp_path, plain, donor, X)
    assert grown.error == 0
    assert "2.weight_mask" not in grown.inheritance.tensors
