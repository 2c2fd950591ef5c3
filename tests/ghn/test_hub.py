"""GHNs from the hub and to it: huggingface_hub's real client against a small server on the loopback."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from onnx_ghn.errors import CheckpointError
from onnx_ghn.ghn import GHNConfig, new_ghn, save_ghn
from onnx_ghn.ghn.hub import Address

pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed: onnx-ghn[hub]")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
EXAMPLE = Path(__file__).parents[2] / "data" / "examples" / "lstm_text.onnx"


class Hub:
    """What the server holds, and what was asked of it."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.address = ""


def _handler(hub: Hub) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        """The hub's answers for one repository, me/ghn, as far as files are read and written."""

        def do_GET(self) -> None:
            hub.asked.append(self.path)
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:4] == ["api", "models", "me", "ghn"]:
                self._json(self._about(parts[4:]))
            elif parts[:3] == ["me", "ghn", "resolve"]:
                content = hub.files.get("/".join(parts[4:]))
                if content is None:
                    self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                else:
                    self._send(
                        200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
                    )
            else:
                self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        do_HEAD = do_GET

        def do_POST(self) -> None:
            hub.asked.append(self.path)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                hub.created.append(json.loads(body))
                self._json({"url": f"{hub.address}/me/ghn"})
            elif "/preupload/" in self.path:
                files = json.loads(body)["files"]
                self._json(
                    {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
                )
            elif "/commit/" in self.path:
                for entry in map(json.loads, body.splitlines()):
                    if entry["key"] == "file":
                        hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
                self._json({"commitOid": COMMIT, "commitUrl": f"{hub.address}/me/ghn/commit/{COMMIT}", "success": True})
            else:
                self._json({})

        def _about(self, rest: list[str]) -> Any:
            if rest[:1] == ["tree"]:
                return [
                    {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                    for name, data in hub.files.items()
                ]
            siblings = [{"rfilename": name} for name in hub.files]
            return {"id": "me/ghn", "sha": COMMIT, "siblings": siblings, "private": False, "tags": []}

        def _json(self, value: Any) -> None:
            self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def _send(self, code: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub whose repository me/ghn holds a small GHN."""
    found = Hub()
    ghn = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10), seed=0)
    folder = save_ghn(ghn, tmp_path / "ghn")
    for path in folder.iterdir():
        found.files[path.name] = path.read_bytes()
        found.files[f"old/{path.name}"] = path.read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(found)) as server:
        found.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


def _python(hub: Hub, home: Path, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    """A process whose hub is that server, and whose cache lies in `home`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_TOKEN": "hf_none", **more}
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, env=kept | own, capture_output=True, text=True)


def _predict(hub: Hub, folder: Path, ghn: str, name: str = "out.onnx", **more: str) -> subprocess.CompletedProcess[str]:
    options = ["predict", EXAMPLE, "--ghn", ghn, "-o", folder / name, "--calibrate", "none", "--policy", "all"]
    return _python(hub, folder / "home", "-m", "onnx_ghn", *options, **more)


def test_predict_with_a_ghn_of_the_hub_and_again_from_the_cache(hub: Hub, tmp_path: Path) -> None:
    local = _predict(hub, tmp_path, str(tmp_path / "ghn"), "local.onnx")
    assert local.returncode == 0
    first = _predict(hub, tmp_path, "hf://me/ghn")
    assert (first.returncode, first.stderr) == (0, local.stderr)  # no bars of progress where nobody looks
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "local.onnx").read_bytes()
    n_asked = len(hub.asked)
    again = _predict(hub, tmp_path, "hf://me/ghn", "again.onnx", HF_HUB_OFFLINE="1")
    assert (again.returncode, again.stderr) == (0, local.stderr)
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "local.onnx").read_bytes()
    assert len(hub.asked) == n_asked


def test_a_file_of_a_revision_with_its_config_beside_it(hub: Hub, tmp_path: Path) -> None:
    done = _predict(hub, tmp_path, "hf://me/ghn@v1.0/old/model.safetensors")
    assert done.returncode == 0, done.stderr
    assert any("/revision/v1.0" in path for path in hub.asked)
    assert not any(path.endswith("/model.safetensors") and "/old/" not in path for path in hub.asked)


@pytest.mark.parametrize(
    ("ghn", "words"),
    [
        ("hf://me/other", "no such repository on the hub, or a private one"),
        ("hf://me/ghn/none.safetensors", "no none.safetensors in this repository; name a file of it"),
        ("hf://me/ghn/none.safetensors", "model.safetensors, old/model.safetensors"),
        ("hf://me", "not an address of the hub"),
        ("hf://bad name/ghn", "no valid name of a repository"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(hub: Hub, tmp_path: Path, ghn: str, words: str) -> None:
    done = _predict(hub, tmp_path, ghn)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith(f"error: {ghn}: ")
    assert words in line
    assert not (tmp_path / "out.onnx").exists()


def test_offline_without_a_cache(hub: Hub, tmp_path: Path) -> None:
    done = _predict(hub, tmp_path, "hf://me/ghn", HF_HUB_OFFLINE="1")
    (line,) = done.stderr.splitlines()
    assert "not in the cache, and the hub cannot be reached" in line
    assert hub.asked == []


def test_from_pretrained_and_push_to_hub(hub: Hub, tmp_path: Path) -> None:
    """A GHN that is pushed comes back, with a card whose header the hub can read."""
    code = (
        "import numpy, onnx_ghn, sys\n"
        "ghn = onnx_ghn.GHN.from_pretrained('me/ghn', revision='main')\n"
        "print(ghn.push_to_hub('me/ghn', private=True))\n"
        "back = onnx_ghn.GHN.from_pretrained('me/ghn')\n"
        "print(all((a == b).all() for a, b in zip(ghn.state_dict().values(), back.state_dict().values())))\n"
    )
    done = _python(hub, tmp_path / "home", "-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{hub.address}/me/ghn/commit/{COMMIT}", "True"]
    # Before 2.0 huggingface_hub sends private, then visibility.
    assert hub.created[0].get("private", hub.created[0].get("visibility") == "private") is True, hub.created
    header, _, text = hub.files["README.md"].decode().removeprefix("---\n").partition("---\n")
    assert yaml.safe_load(header)["library_name"] == "onnx-ghn"
    assert "onnx-ghn predict" in text


def test_save_pretrained_keeps_a_card_and_takes_the_policy_along(tmp_path: Path) -> None:
    ghn = new_ghn(GHNConfig.preset("ghn2", hid=8, max_shape=(8, 8, 3, 3), num_classes=10), seed=0)
    ghn.policy_file = tmp_path / "policy.json"
    ghn.policy_file.write_text("{}")
    folder = tmp_path / "saved"
    folder.mkdir()
    (folder / "README.md").write_text("mine")
    ghn.save_pretrained(folder)
    assert (folder / "README.md").read_text() == "mine"
    assert (folder / "policy.json").read_text() == "{}"
    back = type(ghn).from_pretrained(folder)
    for name, tensor in ghn.state_dict().items():
        np.testing.assert_array_equal(tensor, back.state_dict()[name])


def test_addresses() -> None:
    assert Address.of("hf://a/b") == ("a/b", None, None)
    assert Address.of("hf://a/b@refs%2Fpr%2F1/x/y.pt") == ("a/b", "refs/pr/1", "x/y.pt")
    for text in ("hf://", "hf://a", "a/b", "hf://a/b@", "hf://a/b/../c"):
        with pytest.raises(CheckpointError, match=r"hf://owner/name|leave out"):
            Address.of(text)
