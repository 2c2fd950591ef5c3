"""GHN files with tensors that are no plain arrays, or that claim more than the file holds: one line each."""

from __future__ import annotations

import dataclasses
import os
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ghn_samples import SMALL
from safetensors.torch import save_file
from torch import Tensor

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn import GHNConfig, load_ghn, new_ghn
from onnx_ghn.ghn.plain_tensors import check_plain

_CONFIG = GHNConfig.preset("ghn3", **{**SMALL, "hid": 16, "heads": 4})
_NESTED = {"jagged": torch.jagged, "nested": torch.strided}


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return dict(new_ghn(_CONFIG).state_dict())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t.to_sparse(), "is sparse"),
        (lambda t: t.to_sparse_csr(), "is sparse"),
        (lambda t: t.to("meta"), "is without content"),
        (lambda t: torch.quantize_per_tensor(t, 0.1, 0, torch.qint8), "is quantised"),
        (lambda t: t.to(torch.float8_e4m3fn), "must be float16, bfloat16, float32 or float64"),
        (lambda t: t.to(torch.float8_e5m2), "must be float16, bfloat16, float32 or float64"),
        (lambda t: t.to(torch.complex64), "must be floating point"),
        (lambda t: t.to(torch.int8), "must be floating point"),
        (lambda t: torch.zeros(1, 1).expand(t.shape), "needs"),
        (lambda t: torch.zeros(1).expand(10**15), "needs"),
    ],
)
def test_tensors_that_are_not_plain(
    tensors: dict[str, Tensor], tmp_path: Path, change: Callable[[Tensor], Tensor], says: str
) -> None:
    name = "embed.weight"
    changed = {**tensors, name: change(tensors[name])}
    for content in (changed, {"state_dict": changed, "config": dataclasses.asdict(_CONFIG)}):
        torch.save(content, tmp_path / "ghn.pt")
        with pytest.raises(CheckpointError, match=f"tensor {name} .*{says}"):
            load_ghn(tmp_path / "ghn.pt")
    try:
        save_file(changed, tmp_path / "ghn.safetensors")
    except Exception:  # noqa: BLE001 - not every one can be stored so
        return
    with pytest.raises(CheckpointError, match=f"tensor {name} .*{says}"):
        load_ghn(tmp_path / "ghn.safetensors")


@pytest.mark.filterwarnings("ignore")
def test_a_nested_tensor_is_refused(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """Torch 2.15 stores one by an object that it does not load where tensors alone may be."""
    rows = tensors["embed.weight"]
    torch.save({**tensors, "embed.weight": torch.nested.nested_tensor([rows[0], rows[0, :2]])}, tmp_path / "ghn.pt")
    with pytest.raises(CheckpointError, match=r"tensor embed.weight .*is nested|pickled objects besides tensors"):
        load_ghn(tmp_path / "ghn.pt")


def test_plain_tensors_pass(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        check_plain({name: tensor.to(dtype) for name, tensor in tensors.items()})
    check_plain({"a part": torch.zeros(9)[3:], "transposed": torch.zeros(3, 4).T, "none": torch.zeros(0, 3)})
    torch.save({"state_dict": tensors, "config": dataclasses.asdict(_CONFIG)}, tmp_path / "ghn.pt")
    loaded = load_ghn(tmp_path / "ghn.pt").state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())


@pytest.mark.parametrize(
    "name",
    ["embed.weight", "decoder.fc.0.weight", "decoder.class_layer_predictor.1.weight", "decoder.conv.2.weight",
     "gnn.0.attn.proj_e.2.weight"],
)  # fmt: skip
@pytest.mark.parametrize("value", [torch.tensor(1.0), torch.zeros(0), torch.zeros(0, 0)])
def test_numbers_where_shapes_are_read(tensors: dict[str, Tensor], tmp_path: Path, name: str, value: Tensor) -> None:
    torch.save({**tensors, name: value}, tmp_path / "ghn.pt")
    with pytest.raises(CheckpointError):
        load_ghn(tmp_path / "ghn.pt")


@pytest.mark.parametrize("value", [torch.zeros(3), torch.zeros(()), "yes", 1.0, [True]])
def test_a_config_that_holds_no_truth(tensors: dict[str, Tensor], tmp_path: Path, value: object) -> None:
    config: dict[str, Any] = {"is_ghn2": value, "max_shape": (1, 1, 1, 1), "num_classes": 10}
    torch.save({"state_dict": tensors, "config": config}, tmp_path / "ghn.pt")
    with pytest.raises(CheckpointError, match=r"is_ghn2 is a .*, must be true or false"):
        load_ghn(tmp_path / "ghn.pt")


def test_archives_out_of_proportion(tensors: dict[str, Tensor], tmp_path: Path) -> None:
    """32 MiB of zeros, packed: unpacked they would be no harm, a thousand times as many would."""
    plain = tmp_path / "plain.pt"
    torch.save({**tensors, "zeros": torch.zeros(1 << 23)}, plain)
    for name, method in (("packed.pt", zipfile.ZIP_DEFLATED), ("stored.pt", zipfile.ZIP_STORED)):
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(tmp_path / name, "w", method) as target:
            for entry in source.infolist():
                target.writestr(entry.filename, source.read(entry))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match="out of proportion"):
        load_ghn(tmp_path / "packed.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 24 << 10  # KiB
    with pytest.raises(CheckpointError, match="unknown tensor zeros"):
        load_ghn(tmp_path / "stored.pt")


@pytest.mark.parametrize("name", ["ghn.pt", "ghn.safetensors"])
def test_pipes_are_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(CheckpointError, match="is a device, pipe or socket"):
        load_ghn(tmp_path / name)
