"""A few verbs of the Kubernetes API over plain HTTPS, for setting the pool up; and kubeconfig files.

For the orchestrator only: synchronous, one connection per thread, no caches, no watches.
"""

import http.client
import json
import ssl
import threading
from base64 import b64encode
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from quorate_local import pki

Json = dict[str, Any]

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """The API server said no."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message


class Api:
    """A client with a certificate. Safe to use from several threads."""

    def __init__(self, server: str, ca: Path, client: pki.KeyPair) -> None:
        self.server = server
        self._at = urlsplit(server)
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._tls.load_cert_chain(client.cert, client.key)
        self._local = threading.local()

    def call(self, method: str, path: str, body: Json | bytes | None = None, content_type: str = "application/json") -> Json:
        """One request; the answer's JSON.

        Raises ApiError on a refusal, OSError when the server cannot be reached.
        """
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        for attempt in (1, 2):
            connection = getattr(self._local, "connection", None)
            fresh = connection is None
            if connection is None:
                assert self._at.hostname
                connection = http.client.HTTPSConnection(self._at.hostname, self._at.port, context=self._tls, timeout=30)
                self._local.connection = connection
            try:
                connection.request(method, path, data, {"Content-Type": content_type, "Accept": "application/json"})
                answer = connection.getresponse()
                raw = answer.read()
                break
            except (OSError, http.client.HTTPException):
                connection.close()
                self._local.connection = None
                if fresh or attempt == 2:  # only a kept connection may have been closed under us
                    raise
        try:
            decoded = json.loads(raw)
        except ValueError:
            decoded = None
        result: Json = decoded if isinstance(decoded, dict) else {"message": raw.decode(errors="replace").strip()}
        if answer.status >= 400:
            raise ApiError(answer.status, str(result.get("message", answer.reason)))
        return result

    def get(self, path: str) -> Json | None:
        """The object at that path, or None if there is none."""
        try:
            return self.call("GET", path)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def create(self, path: str, body: Json | bytes, content_type: str = "application/json") -> Json | None:
        """POST; None if it is there already."""
        try:
            return self.call("POST", path, body, content_type)
        except ApiError as error:
            if error.status == 409:
                return None
            raise

    def delete(self, path: str) -> bool:
        """DELETE with no grace time; False if there was nothing."""
        try:
            self.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
        except ApiError as error:
            if error.status == 404:
                return False
            raise
        return True

    def merge(self, path: str, patch: Json) -> Json:
        """JSON merge patch; the object afterwards."""
        return self.call("PATCH", path, patch, MERGE)

    def apply(self, path: str, body: Json) -> Json:
        """Server-side apply, by force."""
        return self.call("PATCH", f"{path}?fieldManager=quorate-local&force=true", body, APPLY)

    def ready(self) -> bool:
        """Whether the server says that it is ready."""
        try:
            self.call("GET", "/readyz")
        except (ApiError, OSError, http.client.HTTPException):
            return False
        return True


def write_kubeconfig(path: Path, server: str, ca: Path, user: pki.KeyPair | str, namespace: str = "default") -> Path:
    """A kubeconfig with everything inside, for a client certificate or a token."""
    if isinstance(user, str):
        credentials = {"token": user}
    else:
        credentials = {
            "client-certificate-data": b64encode(user.cert.read_bytes()).decode(),
            "client-key-data": b64encode(user.key.read_bytes()).decode(),
        }
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": {"server": server, "certificate-authority-data": b64encode(ca.read_bytes()).decode()}}],
        "users": [{"name": "user", "user": credentials}],
        "contexts": [{"name": "quorate-local", "context": {"cluster": "local", "user": "user", "namespace": namespace}}],
        "current-context": "quorate-local",
    }
    unfinished = path.with_suffix(".new")
    unfinished.touch(mode=0o600)
    unfinished.write_text(yaml.safe_dump(config))
    unfinished.rename(path)
    return path
