"""The pool's backup on the real API server: read with the agent's own rights, and applied again after everything was lost."""

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from quorate_agent.report import backup
from quorate_agent.report.api import Api
from quorate_agent.statefile import keep
from quorate_core import slot

pytestmark = pytest.mark.cluster
VERSION = {"apiVersion": "quorate.dev/v1alpha1"}
AS_CONTROLLER = (
    "--as=system:serviceaccount:quorate-system:quorate-controller",
    "--as-group=system:serviceaccounts:quorate-system",
    "--as-group=system:masters",
)


@pytest.fixture
def name(cluster: Any) -> Iterator[str]:
    """A pool of two hosts, without Nodes or agents; the name of the pool and the first part of theirs."""
    name = f"kept-{uuid.uuid4().hex[:6]}"
    spec = {"heartbeat": {"storage": {"devicePath": "/dev/none"}}, "hostSelector": {"matchLabels": {"pool": name}}}
    cluster.kubectl(
        "apply", *AS_CONTROLLER, "-f", "-",
        stdin=json.dumps({**VERSION, "kind": "HAPool", "metadata": {"name": name}, "spec": spec}),
    )  # fmt: skip
    for index in range(2):
        host = {**VERSION, "kind": "HAHost", "metadata": {"name": f"{name}-{index}"}, "spec": {"pool": name, "weight": index}}
        cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=json.dumps(host))
        status = json.dumps({"status": {"slot": index, "phase": "Live"}})
        cluster.kubectl("patch", *AS_CONTROLLER, "hah", f"{name}-{index}", "--subresource=status", "--type=merge", "-p", status)
    yield name
    cluster.kubectl("delete", *AS_CONTROLLER, "--ignore-not-found", f"hap/{name}", f"hah/{name}-0", f"hah/{name}-1")


def test_what_the_agent_backs_up_can_be_applied_after_the_objects_are_lost(cluster: Any, name: str, namespace: str, tmp_path: Path) -> None:
    vm = {
        **VERSION, "kind": "ProtectedVM", "metadata": {"name": "db", "namespace": namespace},
        "spec": {"pool": name, "vmRef": {"name": "db"}, "priority": 7},
    }  # fmt: skip
    cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=json.dumps(vm))
    config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--minify"))
    config["users"][0]["user"] = {"token": cluster.kubectl("create", "token", "quorate-agent", "-n", "quorate-system").strip()}
    credentials = tmp_path / "agent.kubeconfig"
    credentials.write_text(yaml.safe_dump(config))

    async def asked(host: str) -> str | None:
        api = await Api.connect(credentials)
        try:
            return await backup.wanted(api, host)
        finally:
            await api.close()

    assert asyncio.run(asked(f"{name}-1")) is None
    text = asyncio.run(asked(f"{name}-0"))
    assert text is not None
    disk = tmp_path / "disk"
    disk.write_bytes(slot.encode_header(bytes(range(1, 17))))
    assert keep.put(str(disk), bytes(range(1, 17)), text, f"{name}-0", datetime.now(UTC))

    cluster.kubectl("delete", *AS_CONTROLLER, f"hap/{name}", f"hah/{name}-0", f"hah/{name}-1")
    cluster.kubectl("delete", *AS_CONTROLLER, "-n", namespace, "pvm/db")
    words = [sys.executable, "-m", "quorate_agent.statefile", "restore", str(disk)]
    restored = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60).stdout
    cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=restored)
    assert json.loads(cluster.kubectl("get", "hah", f"{name}-1", "-o", "json"))["spec"] == {
        "pool": name, "weight": 1, "maintenance": False, "maintenancePolicy": "Refuse",
    }  # fmt: skip
    assert json.loads(cluster.kubectl("get", "hap", name, "-o", "json"))["spec"]["hostSelector"] == {"matchLabels": {"pool": name}}
    assert json.loads(cluster.kubectl("get", "pvm", "-n", namespace, "db", "-o", "json"))["spec"]["priority"] == 7
