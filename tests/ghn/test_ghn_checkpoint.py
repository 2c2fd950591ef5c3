"""Checkpoints: round trips, published files, damaged files."""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from ghn_samples import SMALL, GraphMaker
from safetensors.torch import save_file

from onnx_ghn import shipped
from onnx_ghn.cli.checks import check_ghn
from onnx_ghn.errors import CheckpointError, OptionError
from onnx_ghn.ghn import GHN, GHNConfig, fingerprint, list_ghns, listing, load_ghn, new_ghn, save_ghn, stored


def _same(one: GHN, other: GHN) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _published(config: GHNConfig) -> dict[str, Any]:
    """The config dictionary that the published training scripts store."""
    common = {key: getattr(config, key) for key in ("num_classes", "hid", "weight_norm", "ve", "layernorm")}
    if config.hypernet == "graphormer":
        return {**common, "max_shape": list(config.max_shape), "heads": config.heads, "layers": config.layers}
    return {
        **common,
        "max_shape": list(config.max_shape),
        "hypernet": config.hypernet,
        "decoder": config.decoder,
    }


def test_round_trip(ghn: GHN, tmp_path: Path) -> None:
    folder = save_ghn(ghn, tmp_path / "a" / "ghn")
    loaded = load_ghn(folder)
    assert _same(ghn, loaded)
    assert loaded.config == ghn.config
    assert not loaded.training
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    first = (folder / "model.safetensors").read_bytes()
    save_ghn(loaded, folder)
    assert (folder / "model.safetensors").read_bytes() == first


def test_file_alone_is_enough(tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn1", **SMALL))
    folder = save_ghn(ghn, tmp_path)
    (folder / "config.json").unlink()
    assert load_ghn(folder / "model.safetensors").config == ghn.config


@pytest.mark.parametrize("kind", ["ghn1", "ghn2", "mlp", "ghn3"])
@pytest.mark.parametrize("beside", ["g.seed1.config.json", "g.config.json", "config.json", None])
def test_published_safetensors(kind: str, beside: str | None, tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset(kind, **{**SMALL, "max_shape": (16, 12, 11, 11)}))
    save_file(ghn.state_dict(), tmp_path / "g.seed1.safetensors")
    if beside:
        (tmp_path / beside).write_text(json.dumps(_published(ghn.config)))
    loaded = load_ghn(tmp_path / "g.seed1.safetensors")
    assert _same(ghn, loaded)
    for key in ("hypernet", "max_shape", "weight_norm", "ve", "layernorm", "kernel_slice", "kernel_overflow"):
        assert getattr(loaded.config, key) == getattr(ghn.config, key), key


def test_published_pt(ghn: GHN, tmp_path: Path, make_graph: GraphMaker) -> None:
    path = tmp_path / "ghn.pt"
    torch.save({"state_dict": ghn.state_dict(), "config": _published(ghn.config), "epoch": 3}, path)
    loaded = load_ghn(path)
    graph = make_graph(0)
    expected, found = ghn.blocks(graph), loaded.blocks(graph)
    assert all((expected[i].array() == found[i].array()).all() for i in expected)


def test_released_ghn3_is_a_bare_state_dict_with_moved_names(tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn3", **{**SMALL, "layers": 2, "heads": 4}))
    state = {}
    for name, tensor in ghn.state_dict().items():
        moved = any(part in name for part in ("centrality", "input_dist"))
        state["module." + (name.removeprefix("gnn.0.") if moved else name)] = tensor
    torch.save(state, tmp_path / "ghn3.pt")
    loaded = load_ghn(tmp_path / "ghn3.pt")
    assert _same(ghn, loaded)
    assert (loaded.config.layers, loaded.config.heads) == (2, 4)
    assert loaded.config.graph_rules == "ghn3"


def test_ghn2_of_ghn3_code_has_linear_layers(tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    state = {name: t.flatten(1) if t.dim() == 4 else t for name, t in ghn.state_dict().items()}
    torch.save(state, tmp_path / "ghn2.pt")
    loaded = load_ghn(tmp_path / "ghn2.pt")
    assert _same(ghn, loaded)
    assert (loaded.config.graph_rules, loaded.config.kernel_overflow) == ("ghn3", "interpolate")
    ghn.load_state_dict(state)  # either shape loads into a module too


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/onnx_ghn_evil_pickle"),))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("absent", "no such file"),
        ("folder", "no model.safetensors"),
        ("empty", "empty"),
        ("truncated", "truncated"),
        ("truncated_pt", "truncated or damaged"),
        ("noise_pt", "not a torch file"),
        ("joblib", "joblib"),
        ("evil", "pickled objects"),
        ("not_ghn", "not a GHN"),
        ("not_ghn_pt", "not a GHN"),
        ("list_pt", "holds a list"),
        ("missing", "no tensor ln.weight"),
        ("extra", "unknown tensor surprise"),
        ("shape", "is \\(3, 3\\)"),
        ("integers", "floating"),
        ("config", "unreadable config"),
        ("config_key", "unknown keys"),
        ("huge_config", "more than"),
        ("no_config", "no config"),
    ],
)
def test_damage_is_told_in_one_line(damage: str, message: str, tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    folder = save_ghn(ghn, tmp_path / "ghn")
    weights, config = folder / "model.safetensors", folder / "config.json"
    state = ghn.state_dict()
    source: Path = folder
    pt = tmp_path / "g.pt"
    match damage:
        case "absent":
            source = tmp_path / "nothing"
        case "folder":
            weights.unlink()
        case "empty":
            weights.write_bytes(b"")
        case "truncated":
            weights.write_bytes(weights.read_bytes()[:-100])
        case "truncated_pt":
            torch.save({"state_dict": state}, pt)
            pt.write_bytes(pt.read_bytes()[:-3000])
            source = pt
        case "noise_pt":
            pt.write_bytes(bytes(range(256)) * 10)
            source = pt
        case "joblib":
            pt.write_bytes(pickle.dumps({"state_dict": {"a": _Evil()}}))
            source = pt
        case "evil":
            torch.save({"state_dict": _Evil()}, pt)
            source = pt
        case "not_ghn":
            save_file({"layer.weight": torch.zeros(3)}, weights)
        case "not_ghn_pt":
            torch.save({"epoch": 3}, pt)
            source = pt
        case "list_pt":
            torch.save([1, 2], pt)
            source = pt
        case "missing":
            save_file({k: v for k, v in state.items() if k != "ln.weight"}, weights)
        case "extra":
            save_file({**state, "surprise": torch.zeros(1)}, weights)
        case "shape":
            save_file({**state, "ln.weight": torch.zeros(3, 3)}, weights)
        case "integers":
            save_file({**state, "ln.weight": torch.zeros(32, dtype=torch.int64)}, weights)
        case "config":
            config.write_text("{")
        case "config_key":
            config.write_text(json.dumps({**json.loads(config.read_text()), "later": 1}))
        case "huge_config":
            config.write_text(" " * 2**21)
        case "no_config":
            source = tmp_path / "x.safetensors"
            save_file({"layer.weight": torch.zeros(3)}, source)
    with pytest.raises(CheckpointError, match=message) as caught:
        load_ghn(source)
    assert "\n" not in str(caught.value)
    assert not Path("/tmp/onnx_ghn_evil_pickle").exists()


def test_too_large_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_ghn(new_ghn(GHNConfig.preset("ghn2", **SMALL)), tmp_path)
    monkeypatch.setattr(stored, "_MAX_WEIGHT_BYTES", 1000)
    with pytest.raises(CheckpointError, match="more than any GHN"):
        load_ghn(folder)


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    save_ghn(ghn, tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        save_ghn(new_ghn(GHNConfig.preset("ghn2", **SMALL), seed=9), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]
    assert _same(load_ghn(tmp_path), ghn)


def test_unknown_device(tmp_path: Path) -> None:
    folder = save_ghn(new_ghn(GHNConfig.preset("ghn2", **SMALL)), tmp_path)
    with pytest.raises(OptionError, match="nonsense"):
        load_ghn(folder, device="nonsense")


def test_shipped_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (shipped, stored, listing):
        monkeypatch.setattr(module, "shipped_checkpoints", lambda: tmp_path)
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL))
    save_ghn(ghn, tmp_path / "tiny")
    (tmp_path / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n\nA GHN for tests.\nMore.\n")
    (tmp_path / "other").mkdir()
    (info,) = list_ghns()
    assert (info.name, info.description, info.config) == ("tiny", "A GHN for tests.", ghn.config)
    assert _same(load_ghn("tiny"), ghn)
    with pytest.raises(CheckpointError, match="shipped are: tiny"):
        load_ghn("tinny")
    for name in ("", "a\0b", "~nobody-of-this-name/x", "x" * 5000):
        told = []
        for look in (load_ghn, check_ghn):  # the command line looks before anything heavy is imported
            with pytest.raises(CheckpointError) as caught:
                look(name)
            told.append(str(caught.value))
        assert told[0] == told[1]
        assert "no such file, folder or shipped GHN; shipped are: tiny" in told[0]


@pytest.mark.parametrize("kind", ["ghn1", "ghn2", "mlp", "ghn3"])
def test_new_ghn_is_deterministic_and_leaves_no_trace(kind: str) -> None:
    config = GHNConfig.preset(kind, **SMALL)
    before = torch.get_rng_state()
    one, same, other = new_ghn(config, seed=5), new_ghn(config, seed=5), new_ghn(config, seed=6)
    assert torch.equal(torch.get_rng_state(), before)
    assert _same(one, same)
    assert not _same(one, other)
    assert (one.config.seed, one.config.trained) == (5, False)


def test_ghn3_initialisation() -> None:
    ghn = new_ghn(GHNConfig.preset("ghn3", **SMALL), seed=0)
    for layer in (ghn.decoder_1d.fc[2], ghn.decoder.conv[2], ghn.decoder.class_layer_predictor[1]):
        assert not layer.bias.any()
        # torch's default is uniform within 1/sqrt(fan-in).
        assert layer.weight.abs().max().item() == pytest.approx(0.2 / layer.weight.shape[1] ** 0.5, rel=0.02)
    edges = ghn.gnn[0].attn.edge_embed.embed.weight
    assert edges.std().item() == pytest.approx(64**-0.5, rel=0.02)


def test_a_fingerprint_is_of_config_and_weights(tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", **SMALL), seed=0)
    same = load_ghn(save_ghn(ghn, tmp_path))
    assert fingerprint(ghn) == fingerprint(same)
    other = dataclasses.replace(ghn.config, ve_cutoff=7)
    renamed = GHN(other)
    renamed.load_state_dict(ghn.state_dict())
    with torch.no_grad():
        same.bias_class[1].bias[0] += 1e-6
    assert len({fingerprint(each) for each in (ghn, same, renamed)}) == 3


def test_unknown_kind() -> None:
    with pytest.raises(CheckpointError, match="ghn4"):
        new_ghn("ghn4")


def test_only_the_ghn_package_imports_torch() -> None:
    code = "import sys, onnx_ghn, onnx_ghn.graph; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
