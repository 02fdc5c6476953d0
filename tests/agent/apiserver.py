"""An API server of a few objects for a real report: run as a program, `apiserver.py FOLDER PORT`, in whatever network the report is in.

It reads `objects.json` of that folder at each request and keeps the last write to a HAHost's status in `told.json`. It imports nothing of
this repository, so that it can be started by its path.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


def kubeconfig(folder: Path, port: int) -> Path:
    """Credentials for it, as a file."""
    fields = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "u", "user": {"token": "none"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "c",
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(fields))
    return path


def command(folder: Path, port: int) -> list[str]:
    """How to start it."""
    return [sys.executable, __file__, str(folder), str(port)]


def told(folder: Path) -> dict[str, Any]:
    """`status.agent` as it was last written; {} if it never was."""
    try:
        return dict(json.loads((folder / "told.json").read_text())["status"]["agent"])
    except FileNotFoundError:
        return {}


def put(folder: Path, objects: list[dict[str, Any]]) -> None:
    """The objects that it has from now on."""
    _replace(folder / "objects.json", objects)


def _replace(path: Path, content: Any) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(content))
    fresh.replace(path)


class Handler(BaseHTTPRequestHandler):
    """Answers for `objects.json` of `folder`."""

    protocol_version = "HTTP/1.1"
    folder = Path()

    def do_GET(self) -> None:
        plural, name = self._asked()
        objects = json.loads((self.folder / "objects.json").read_text())
        found = [one for one in objects if one["kind"].lower() + "s" == plural]
        if not name:
            self._answer(200, {"kind": "List", "apiVersion": "v1", "metadata": {}, "items": found})
        else:
            one = next((one for one in found if one["metadata"]["name"] == name), None)
            self._answer(200 if one else 404, one or {"kind": "Status", "status": "Failure"})

    def do_PATCH(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        _replace(self.folder / "told.json", body)
        self._answer(200, body)

    def _asked(self) -> tuple[str, str]:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if "namespaces" in parts:
            return parts[parts.index("namespaces") + 2], parts[-1]
        return parts[3], parts[4] if len(parts) > 4 else ""

    def _answer(self, code: int, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


if __name__ == "__main__":
    Handler.folder = Path(sys.argv[1])
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[2])), Handler).serve_forever()
