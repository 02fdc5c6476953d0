"""What the backup says: the pool's manifests and its plan, as JSON: report makes it, `keep` puts it on the disk, `restore` reads it. Pure.

Standard library only. What a server owns (uid, versions, times, managed fields, status) is left out when the document is made, so that a
change of it is no change of the backup; the few facts of the status that people will miss are the plan.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSION = 1
FILE = "backup.json"
"""In the run folder: report puts it there, whole or not at all, on the host that is to write; elsewhere there is none."""
_KEPT_METADATA = ("name", "namespace", "labels", "annotations")
_KINDS = {"HAPool", "HAHost", "ProtectedVM"}
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


class Unreadable(Exception):
    """This text is no backup; the message says why."""


@dataclass(frozen=True, slots=True)
class Document:
    """`manifests`: as `kubectl apply` takes them. `plan`: where each VM runs and would restart, and what the pool tolerates."""

    pool: str
    manifests: tuple[Mapping[str, Any], ...]
    plan: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Entry:
    """A document as it lies on the disk: who wrote it and when by the wall clock, for people."""

    written_by: str
    written_at: str
    text: str

    def to_bytes(self) -> bytes:
        """The payload."""
        return json.dumps({"version": VERSION, "writtenBy": self.written_by, "writtenAt": self.written_at, "text": self.text}).encode()

    @classmethod
    def from_bytes(cls, payload: bytes) -> "Entry":
        """The entry in that payload. Raises Unreadable."""
        fields = _parsed(payload)
        values = [str(fields[name]) for name in ("writtenBy", "writtenAt", "text") if isinstance(fields.get(name), str)]
        if len(values) < 3:
            raise Unreadable("the backup lacks writtenBy, writtenAt or text")
        if not all(value.isprintable() for value in values[:2]):
            raise Unreadable("the backup: writtenBy and writtenAt: not one line of text")
        return cls(*values)


def compose(pool: Mapping[str, Any], hosts: Sequence[Mapping[str, Any]], vms: Sequence[Mapping[str, Any]]) -> str:
    """The document's text, the same for the same wishes and plan. `pool`, `hosts` and `vms` are objects as the API server gives them."""
    status = pool.get("status", {})
    plan = {
        "planExistsFor": status.get("planExistsFor"),
        "zones": status.get("zones", []),
        "hosts": {_name(host): {"slot": host.get("status", {}).get("slot")} for host in hosts},
        "vms": {_name(vm): _planned(vm.get("status", {})) for vm in vms},
    }
    ordered = [pool, *sorted(hosts, key=_name), *sorted(vms, key=_name)]
    fields = {"version": VERSION, "pool": pool["metadata"]["name"], "manifests": [_manifest(one) for one in ordered], "plan": plan}
    return json.dumps(fields, separators=(",", ":"), sort_keys=True)


def read(text: str) -> Document:
    """The document in that text. Raises Unreadable."""
    fields = _parsed(text)
    pool, manifests, plan = fields.get("pool"), fields.get("manifests"), fields.get("plan")
    if not isinstance(pool, str) or not isinstance(manifests, list) or not isinstance(plan, dict):
        raise Unreadable("the backup lacks pool, manifests or plan")
    for number, one in enumerate(manifests):
        if not isinstance(one, dict) or not isinstance(one.get("metadata"), dict) or not isinstance(one.get("kind"), str):
            raise Unreadable(f"the backup: manifests[{number}]: not an object of Kubernetes")
        # Whoever can write the disk must not get, say, a ClusterRoleBinding applied.
        if one["kind"] not in _KINDS or not str(one.get("apiVersion", "")).startswith("quorate.dev/"):
            raise Unreadable(f"the backup: manifests[{number}]: a {one['kind']} of {one.get('apiVersion')} is none of Quorate's objects")
    return Document(pool, tuple(manifests), plan)


def _parsed(text: str | bytes) -> dict[str, Any]:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"the backup is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise Unreadable("the backup is not a JSON object")
    if fields.get("version") != VERSION:
        raise Unreadable(f"the backup has version {fields.get('version')!r}; this program reads version {VERSION}")
    return fields


def _manifest(found: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {key: found["metadata"][key] for key in _KEPT_METADATA if found["metadata"].get(key)}
    notes = {key: value for key, value in metadata.get("annotations", {}).items() if key != _APPLIED}
    if notes:
        metadata["annotations"] = notes
    else:
        metadata.pop("annotations", None)
    return {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": metadata, "spec": found.get("spec", {})}


def _planned(status: Mapping[str, Any]) -> dict[str, Any]:
    return {key: status[key] for key in ("host", "plannedHost", "zone") if status.get(key) is not None}


def _name(found: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (found["metadata"].get("namespace"), found["metadata"]["name"])))
