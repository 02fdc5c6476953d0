"""Disks and objects for the tests of `quorate-statefile`, and the command itself."""

import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quorate_agent.statefile import document
from quorate_core import backup, slot
from quorate_core.slot import Slot
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.timing import STANDARD, TimingValues

UID = "5f0c2d1e-0000-4000-8000-0123456789ab"
POOL, OTHER = bytes.fromhex(UID.replace("-", "")), bytes(range(16))
NOW = datetime(2026, 1, 1, tzinfo=UTC)
SHORT = TimingValues(0.2, 0.1, 0.1, 0.1, 1e-3, 0.1, 1)
"""What an armed host published of itself, so that a test need not wait for a real bound."""


def ran(*arguments: object) -> tuple[int, str, str]:
    """The command's exit status and what it said."""
    words = [sys.executable, "-m", "quorate_agent.statefile", *map(str, arguments)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def block(index: int, host: str, sequence: int = 5, pool_id: bytes = POOL, **more: Any) -> bytes:
    said = Statement(host, index, 7 + index, sequence, bytes(32), Phase.ARMED, Views(3, 3, 3), (Known(0, 7, 4), Known(1, 8)))
    return slot.encode(replace(Slot(pool_id, bytes(16), said, STANDARD.values, True), **more))


def disk(folder: Path, *blocks: tuple[int, bytes], header: bytes = slot.encode_header(POOL), size: int = backup.END_BYTES) -> Path:
    path = folder / "disk"
    with path.open("wb") as file:
        file.truncate(size)
        for at, data in ((0, header), *((slot.offset_of(index), data) for index, data in blocks)):
            file.seek(at)
            file.write(data)
    return path


def blank(folder: Path, size: int = backup.END_BYTES) -> Path:
    return disk(folder, header=b"", size=size)


def manifests(hosts: int = 2, wish: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects as the API server gives them, with all that it adds."""
    owned = {"uid": UID, "resourceVersion": "12", "generation": 3, "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{}]}
    kept = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "mine": "yes"}}
    pool = {
        "apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool", "metadata": {"name": "p", **owned, **kept},
        "spec": {"hostFailuresToTolerate": wish, "heartbeat": {"storage": {"devicePath": "/dev/x"}}}, "status": {"planExistsFor": 1},
    }  # fmt: skip
    members = [
        {
            "apiVersion": "quorate.dev/v1alpha1", "kind": "HAHost", "metadata": {"name": f"node-{i}", **owned},
            "spec": {"pool": "p"}, "status": {"slot": i, "phase": "Live", "agent": {"reportedAt": str(time.monotonic())}},
        } for i in range(hosts)
    ]  # fmt: skip
    vm = {
        "apiVersion": "quorate.dev/v1alpha1", "kind": "ProtectedVM", "metadata": {"name": "db", "namespace": "shop", **owned},
        "spec": {"vmRef": {"name": "db"}}, "status": {"pool": "p", "host": "node-0", "plannedHost": "node-1"},
    }  # fmt: skip
    return pool, members, [vm]


TEXT = document.compose(*manifests())
