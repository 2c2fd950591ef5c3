#!/usr/bin/env bash
# huggingface_hub 2.4.0: create_repo(private=True) no longer sends `private`, so that a hub of one's own that knows `private` alone makes
# the repository public, and nothing is said.
#
# Up to 0.36 the body of POST /api/repos/create holds "private": true. Since 2.0 it holds "visibility": "private" instead, whatever
# argument was given; the client neither asks the server what it knows nor looks at the visibility that comes back. Mirrors and gateways
# at HF_ENDPOINT that were written for the older clients read no `private`, which is public by default.
#
# Seen on 2026-11-28, Python 3.11, Linux x86_64:
#   0.36.0 sends: private = True, visibility absent
#   2.4.0 sends: private absent, visibility = private
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/create.py" <<'PYTHON'
import http.server
import json
import os
import threading

bodies = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer({"url": f"{os.environ['HF_ENDPOINT']}/me/model"})

    def do_GET(self) -> None:
        self.answer({})

    def answer(self, value: object) -> None:
        data = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: object) -> None:
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
os.environ |= {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_TOKEN": "hf_none"}
import huggingface_hub  # noqa: E402

huggingface_hub.HfApi().create_repo("me/model", private=True)
(body,) = bodies
told = [f"{key} = {body[key]}" if key in body else f"{key} absent" for key in ("private", "visibility")]
print(f"{huggingface_hub.__version__} sends: {', '.join(told)}")
older = huggingface_hub.__version__.startswith("0.")
assert ("private" in body) == older, "the body has changed"
assert ("visibility" in body) != older, "the body has changed"
PYTHON
for version in 0.36.0 2.4.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/python" -m pip install --quiet "huggingface_hub==$version"
  HF_HOME="$folder/home" "$folder/$version/bin/python" "$folder/create.py"
done
