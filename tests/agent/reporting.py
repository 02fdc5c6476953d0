"""Machines whose report runs too, each with an API server of its own that holds the objects of its pool."""

import base64
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

from tests.agent import apiserver
from tests.agent.machines import GENERATION, TIMING, Machine, Rig


def start(pool: Rig, machine: Machine, *, key: bool = True) -> Path:
    """Start its report (again), and the first time its API server; the folder of that. `key`: whether the Secret holds one."""
    folder = machine.folder / "api"
    if "api" not in machine.processes:
        folder.mkdir()
        port = _free_port()
        apiserver.put(folder, _objects(pool, machine, key=key))
        apiserver.kubeconfig(folder, port)
        machine._run("api", apiserver.command(folder, port))
    options = ["--run-dir", str(machine.folder), "--node", machine.name, "--kubeconfig", str(folder / "kubeconfig")]
    machine._run("report", [sys.executable, "-m", "quorate_agent.report", *options])
    return folder


def _objects(pool: Rig, machine: Machine, *, key: bool) -> list[dict[str, Any]]:
    """What makes of this pool the configuration that its machines have already."""
    timing = {"licenceSeconds": TIMING.licence_seconds, "watchdogSeconds": TIMING.watchdog_seconds}
    heartbeat = {"storage": {"devicePath": str(pool.disk)}, "network": {"port": pool.port}, "timing": timing}
    spec = {"heartbeat": heartbeat, "watchdog": {"device": f"development:{machine.dog.path}"}}
    data = {"key": base64.b64encode(pool.key).decode()} if key else {}
    in_force = {"heartbeat": {"storage": heartbeat["storage"], "generation": GENERATION}}
    return [
        {"kind": "HAPool", "metadata": {"name": "test", "uid": str(uuid.UUID(pool.pool_id))}, "spec": spec, "status": in_force},
        {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "quorate-heartbeat"}, "data": data},
        *(
            {
                "kind": "HAHost",
                "metadata": {"name": member.host},
                "spec": {"pool": "test"},
                "status": {"slot": member.slot, "address": member.addresses[0]},
            }
            for member in pool.members
        ),
    ]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
