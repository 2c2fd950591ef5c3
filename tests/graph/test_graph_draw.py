"""Pictures of graphs: every format, whole files, readable colours."""

from __future__ import annotations

import itertools
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from colour_space import lab

from onnx_ghn.drawing.palette import LOOKS, look_of, outline
from onnx_ghn.drawing.pictures import draw
from onnx_ghn.drawing.scene import compose
from onnx_ghn.errors import ModelWriteError, OptionError
from onnx_ghn.graph import ComputationGraph, Layout, Node, Parameter, Primitive, Role

SVG = "{http://www.w3.org/2000/svg}"


def random_graph(n: int, seed: int = 0, name: str = 'a <net> & "more" \x00') -> ComputationGraph:
    """A chain with skips, every primitive in it, names that need escaping."""
    rng = np.random.default_rng(seed)
    shapes = {
        Primitive.conv: (64, 32, 3, 3),
        Primitive.max_pool: (1, 1, 3, 3),
        Primitive.pos_enc: (1, 50, 768),
        Primitive.bias: (64,),
    }
    nodes = [Node(Primitive.input, name="input")]
    for i in range(1, n):
        kind = Primitive(i % 15)
        nodes.append(
            Node(kind, shapes.get(kind), name=f'"node" <{i}>\n& \x01', weight=0 if kind is Primitive.conv else None)
        )
    edges = {(max(0, i - int(rng.integers(1, 3))), i) for i in range(1, n)}
    edges |= {tuple(sorted(rng.choice(n, 2, replace=False).tolist())) for _ in range(n // 2)} if n > 1 else set()
    parameters = (Parameter("w", Role.weight, Layout((64, 32, 3, 3))),)
    return ComputationGraph(tuple(nodes), np.array(sorted(edges)).reshape(-1, 2), parameters, name)


@pytest.mark.parametrize("n", [1, 2, 15, 120, 700])
def test_svg_holds_every_node_and_edge(n: int, tmp_path: Path) -> None:
    graph = random_graph(n)
    path = draw(graph, tmp_path / "net.svg")
    assert path == tmp_path / "net.svg"
    root = ElementTree.parse(path).getroot()
    marks = [e for e in root.iter() if e.get("class", "").startswith("m ") and e.find(f"{SVG}title") is not None]
    assert len(marks) == n
    assert len(list(root.iter(f"{SVG}path"))) == len(graph.edges)
    texts = [e.text or "" for e in root.iter(f"{SVG}text")]
    assert texts[0].startswith('a <net> & "more"')
    assert f"{n:,} nodes" in texts[1]
    assert "18.4 k trainable" in texts[1]
    assert "18,432 parameters" in path.read_text(encoding="utf-8") or n < 5
    width, height = (float(root.get(k, "0")) for k in ("width", "height"))
    for mark in marks:
        if mark.tag == f"{SVG}circle":
            assert 0 < float(mark.get("cx", "-1")) < width
            assert 0 < float(mark.get("cy", "-1")) < height


def test_a_long_chain_is_no_needle() -> None:
    nodes = (Node(Primitive.input), *[Node(Primitive.conv)] * 999)
    graph = ComputationGraph(nodes, np.array([[i, i + 1] for i in range(999)]))
    scene = compose(graph, "chain")
    assert 1 < scene.width / scene.height < 2.2


@pytest.mark.parametrize("n", [30, 300])
def test_no_two_nodes_overlap(n: int) -> None:
    scene = compose(random_graph(n), "net")
    nodes = [mark for mark in scene.marks if mark.title]
    at = np.array([(mark.x, mark.y) for mark in nodes])
    apart = np.linalg.norm(at[:, None] - at[None], axis=-1) + 1e9 * np.eye(len(at))
    assert apart.min() > 22


def test_dot_is_text_that_graphviz_reads(tmp_path: Path) -> None:
    graph = random_graph(40)
    text = draw(graph, tmp_path / "net.dot").read_text()
    assert text.startswith('digraph "a <net> & \\"more\\" \ufffd" {')
    assert text.count(" -> ") == len(graph.edges)
    assert sum(line.startswith("  n") and "fillcolor" in line for line in text.splitlines()) == len(graph)
    # Every quote opens or closes a string; no string holds a raw line break.
    for line in text.splitlines():
        assert line.replace("\\\\", "").replace('\\"', "").count('"') % 2 == 0


def test_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    content = draw(random_graph(40, name="net"), tmp_path / "net.PNG").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert content == draw(random_graph(40, name="net"), tmp_path / "again.png").read_bytes()


def test_png_without_matplotlib_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match=r"pip install .*\[plot\]"):
        draw(random_graph(5), tmp_path / "net.png")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_kept_without_force(tmp_path: Path) -> None:
    target = tmp_path / "net.svg"
    target.write_text("mine")
    with pytest.raises(ModelWriteError, match="`force`"):
        draw(random_graph(5), target)
    assert target.read_text() == "mine"
    draw(random_graph(5), target, force=True)
    assert target.read_text().startswith("<svg")
    assert [p.name for p in tmp_path.iterdir()] == ["net.svg"]


def test_wrong_targets(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"'\.jpg'"):
        draw(random_graph(5), tmp_path / "net.jpg")
    (tmp_path / "folder.svg").mkdir()
    with pytest.raises(ModelWriteError, match="directory"):
        draw(random_graph(5), tmp_path / "folder.svg", force=True)
    with pytest.raises(ModelWriteError):
        draw(random_graph(5), tmp_path / "nowhere" / "net.svg")


def test_labels_where_there_is_room(tmp_path: Path) -> None:
    def has_labels(n: int, labels: bool | None) -> bool:
        return "3×3, 64" in draw(random_graph(n), tmp_path / "net.svg", force=True, labels=labels).read_text()

    assert has_labels(40, None)
    assert not has_labels(200, None)
    assert has_labels(200, True)
    assert not has_labels(40, False)


def test_any_two_primitives_can_be_told_apart() -> None:
    assert set(LOOKS) == set(Primitive)
    white = lab("#ffffff")
    for a, b in itertools.combinations(LOOKS.values(), 2):
        assert np.linalg.norm(lab(a.colour) - lab(b.colour)) > 20, (a.label, b.label)
    for look in LOOKS.values():
        assert np.linalg.norm(lab(look.colour) - white) > 20, look.label


def test_a_pointwise_convolution_is_a_triangle() -> None:
    assert look_of(Node(Primitive.conv, (8, 4, 1, 1))).shape == "triangle"
    assert look_of(Node(Primitive.conv, (8, 4))).shape == "triangle"
    assert look_of(Node(Primitive.conv, (8, 4, 3, 3))).shape == "circle"
    with pytest.raises(ValueError, match="no shape"):
        outline("blob", 0, 0, 1)
