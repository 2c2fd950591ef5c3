"""The forward pass on arrays against the one on tensors, on random graphs and on the examples."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ghn_samples import SMALL, random_graph

from onnx_ghn.errors import GraphError
from onnx_ghn.ghn import GHN, GHNConfig, array_messages, load_ghn, new_ghn, save_ghn
from onnx_ghn.ghn.array_layers import gelu
from onnx_ghn.ghn.array_network import ArrayGHN, load_array_ghn
from onnx_ghn.ghn.resizing import fit_kernel, position_rows
from onnx_ghn.ghn.tensor_tiling import fit_kernel as fit_tensor
from onnx_ghn.ghn.tensor_tiling import position_rows as tensor_rows
from onnx_ghn.ghn.weight_shapes import weight_shapes
from onnx_ghn.graph import ComputationGraph, build_graph

EXAMPLES = Path(__file__).parents[2] / "data" / "examples"
RTOL, ATOL = 1e-5, 5e-6  # the second of a tensor's largest value: float32 sums of another order
ZOO = (
    *("alexnet", "vgg16", "resnet50", "mobilenet_v3_large", "densenet121", "googlenet", "efficientnet_b0"),
    *("convnext_tiny", "vit_b_16", "swin_t"),
)
CONFIGS: dict[str, dict[str, Any]] = {
    "ghn1": {},
    "ghn2": {},
    "ghn2 of MLP decoder": {"kind": "ghn2", "decoder": "mlp"},
    "ghn2 without layer norm": {"kind": "ghn2", "layernorm": False, "weight_norm": False},
    "mlp": {},
    "ghn3": {},
    "ghn3 with identities": {"kind": "ghn3", "dirac": True, "pooled_flatten": True},
    "ghn3 of tiled kernels": {"kind": "ghn3", "kernel_overflow": "tile", "heads": 4, "layers": 1},
    "ghn3 of short edges": {"kind": "ghn3", "ve": False},
}


def ghn_of(name: str, **changes: Any) -> GHN:
    fields = {**SMALL, **CONFIGS[name], **changes}
    ghn = new_ghn(GHNConfig.preset(fields.pop("kind", name), **fields), seed=4)
    with torch.no_grad():
        for tensor in ghn.parameters():  # no zeros, and no two tensors alike
            tensor.add_(0.05 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())))
    return ghn


def array_ghn_of(ghn: GHN, folder: Path) -> ArrayGHN:
    return load_array_ghn(save_ghn(ghn, folder))


def assert_equal(ghn: GHN, arrays: ArrayGHN, graph: ComputationGraph) -> None:
    expected, found = ghn.blocks(graph), arrays.blocks(graph)
    assert found.keys() == expected.keys()
    for index, block in expected.items():
        other = found[index]
        assert (other.tiled, other.shape) == (block.tiled, block.shape)
        largest = float(np.abs(block.values).max(initial=0))
        np.testing.assert_allclose(other.values, block.values, rtol=RTOL, atol=ATOL * largest + 1e-7)


@pytest.mark.parametrize("name", CONFIGS)
def test_random_graphs_give_what_torch_gives(name: str, tmp_path: Path) -> None:
    ghn = ghn_of(name)
    arrays = array_ghn_of(ghn, tmp_path)
    for seed in range(6):
        graph = random_graph(seed, n_nodes=30 + 7 * seed)
        assert_equal(ghn, arrays, graph)
        (expected,), (found,) = ghn.embeddings([graph]), arrays.embeddings([graph])
        np.testing.assert_allclose(found, expected, rtol=RTOL, atol=1e-5)


@pytest.mark.parametrize("name", ["ghn1", "ghn2", "mlp", "ghn3"])
@pytest.mark.parametrize("example", ["resnet18_cifar10", "bert_like", "lstm_text", "mobilenet_keras", "detector_fpn"])
def test_examples_give_what_torch_gives(name: str, example: str, tmp_path: Path) -> None:
    ghn = ghn_of(name)
    assert_equal(ghn, array_ghn_of(ghn, tmp_path), build_graph(EXAMPLES / f"{example}.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", ZOO)
def test_networks_of_a_zoo_give_what_torch_gives(arch: str, tmp_path: Path) -> None:
    from torchvision import models

    from onnx_ghn.exporters.pytorch import LiveModule
    from onnx_ghn.exporters.roundtrip import to_model

    net = models.get_model(arch, weights=None, **({"aux_logits": False} if arch == "googlenet" else {}))
    with to_model(LiveModule(net, torch.zeros(1, 3, 224, 224))) as exported:
        graph = build_graph(exported.model)
    for name in ("ghn1", "ghn2", "mlp", "ghn3"):
        ghn = ghn_of(name)
        assert_equal(ghn, array_ghn_of(ghn, tmp_path / name), graph)


def test_the_shipped_ghn_gives_what_torch_gives() -> None:
    for path in sorted(EXAMPLES.glob("*.onnx")):
        if not path.stem.startswith("resnet50"):
            assert_equal(load_ghn("ghn-cifar10"), load_array_ghn("ghn-cifar10"), build_graph(path))


@pytest.mark.parametrize("scores", [1, 500])
def test_rows_of_attention_at_a_time_change_nothing(
    scores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ghn = ghn_of("ghn3")
    monkeypatch.setattr(array_messages, "_SCORES", scores)
    assert_equal(ghn, array_ghn_of(ghn, tmp_path), random_graph(9, n_nodes=40))


@pytest.mark.parametrize("name", CONFIGS)
def test_names_shapes_and_order_are_those_of_the_module(name: str) -> None:
    config = ghn_of(name).config
    expected = {key: tuple(value.shape) for key, value in GHN(config).state_dict().items()}
    assert list(weight_shapes(config).items()) == list(expected.items())
    wide = dataclasses.replace(config, hid=64, max_shape=(8, 32, 5, 5), num_classes=3)
    expected = {key: tuple(value.shape) for key, value in GHN(wide).state_dict().items()}
    assert weight_shapes(wide) == expected


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = save_ghn(ghn_of("ghn2"), tmp_path)
    weights = folder / "model.safetensors"
    for dtype in (torch.bfloat16, torch.float16):
        save_file({name: tensor.to(dtype) for name, tensor in load_file(weights).items()}, weights)
        assert_equal(load_ghn(folder), load_array_ghn(folder), random_graph(1))


def test_gelu_is_that_of_the_error_function() -> None:
    x = np.linspace(-9, 9, 100_003).astype(np.float32)
    expected = [0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x.tolist()]
    np.testing.assert_allclose(gelu(x), expected, rtol=1e-6, atol=3e-7)


@pytest.mark.parametrize("kernel", [(7, 7), (9, 7), (14, 3), (1, 16)])
def test_kernels_are_resized_as_torch_does(kernel: tuple[int, int]) -> None:
    values = np.random.default_rng(0).standard_normal((2, 3, 4, 7, 7)).astype(np.float32)
    expected = fit_tensor(torch.from_numpy(values), kernel).numpy()
    np.testing.assert_allclose(fit_kernel(values, kernel), expected, rtol=1e-5, atol=1e-6)


def test_tables_of_positions_are_cut_as_torch_does() -> None:
    grid = np.random.default_rng(0).standard_normal((1, 6, 5, 5)).astype(np.float32)
    for n_positions, leading in ((25, 0), (26, 1), (27, 2), (18, 0)):
        expected = tensor_rows(torch.from_numpy(grid), n_positions, leading).numpy()
        assert np.array_equal(position_rows(grid, n_positions, leading), expected)


def test_a_graph_without_nodes_is_refused(tmp_path: Path) -> None:
    empty = ComputationGraph((), np.empty((0, 2), np.int64), (), "empty")
    with pytest.raises(GraphError, match="'empty' has no nodes"):
        array_ghn_of(ghn_of("mlp"), tmp_path).embeddings([empty])


def test_it_is_read_and_predicts_without_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from onnx_ghn.ghn.array_network import load_array_ghn\n"
        "from onnx_ghn.graph import build_graph\n"
        f"print(len(load_array_ghn('ghn-cifar10').blocks(build_graph({str(EXAMPLES / 'lstm_text.onnx')!r}))))"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    assert int(told.stdout) > 0
