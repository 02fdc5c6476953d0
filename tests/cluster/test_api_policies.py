"""Policies of the chart on the real API server: agents write only their own report, launchers are held only while a pool recovers."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

AS_CONTROLLER = (
    "--as=system:serviceaccount:quorate-system:quorate-controller",
    "--as-group=system:serviceaccounts:quorate-system",
    "--as-group=system:masters",
)
Patch = Callable[..., str]


@pytest.fixture
def hosts(cluster: Any) -> Iterator[tuple[str, str]]:
    """Two Nodes that no pool selects, each with an HAHost."""
    names = (f"policy-{uuid.uuid4().hex[:6]}-a", f"policy-{uuid.uuid4().hex[:6]}-b")
    for name in names:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"unschedulable": True}}
        host = {
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "HAHost",
            "metadata": {"name": name},
            "spec": {"pool": "nobodys"},
        }
        for document in (node, host):
            cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=json.dumps(document))
    yield names
    for name in names:
        cluster.kubectl("delete", *AS_CONTROLLER, "--ignore-not-found", f"hahost/{name}", f"node/{name}")


@pytest.fixture
def as_agent(cluster: Any, tmp_path: Path) -> Callable[[str | None], Patch]:
    """kubectl with the token of the agent on a node (None: a token bound to none), and nothing else of the administrator's."""

    def of(node: str | None) -> Patch:
        bound = ["--bound-object-kind=Node", f"--bound-object-name={node}"] if node else []
        token = cluster.kubectl("create", "token", "quorate-agent", "-n", "quorate-system", *bound).strip()
        config = yaml.safe_load(cluster.kubectl("config", "view", "--raw", "--minify"))
        config["users"][0]["user"] = {"token": token}
        path = tmp_path / f"{node or 'none'}.kubeconfig"
        path.write_text(yaml.safe_dump(config))

        def patch(name: str, change: dict[str, Any], *, subresource: bool = True) -> str:
            door = ["--subresource=status"] if subresource else []
            said: str = cluster.kubectl(
                f"--kubeconfig={path}", "patch", "hah", name, *door, "--type=merge", "-p", json.dumps(change), check=False
            )
            return said

        return patch

    return of


def report(armed: bool) -> dict[str, Any]:
    return {"status": {"agent": {"armed": armed, "state": "Armed" if armed else "Joining"}}}


def status_of(cluster: Any, name: str) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(cluster.kubectl("get", "hah", name, "-o", "json")).get("status", {})
    return status


def test_an_agent_writes_its_own_report(cluster: Any, hosts: tuple[str, str], as_agent: Callable[[str | None], Patch]) -> None:
    own, _ = hosts
    assert "patched" in as_agent(own)(own, report(True))
    assert status_of(cluster, own)["agent"]["armed"] is True


def test_an_agent_may_not_write_another_hosts_report(cluster: Any, hosts: tuple[str, str], as_agent: Callable[[str | None], Patch]) -> None:
    own, other = hosts
    said = as_agent(own)(other, report(True))
    assert f"the agent of node {own} may not write HAHost {other}" in said
    assert status_of(cluster, other) == {}


@pytest.mark.parametrize("change", [{"slot": 5}, {"phase": "Live"}, {"slot": None}, {"slot": 5, "agent": {"armed": True}}])
def test_an_agent_may_not_write_what_is_the_controllers(
    cluster: Any, hosts: tuple[str, str], as_agent: Callable[[str | None], Patch], change: dict[str, Any]
) -> None:
    own, _ = hosts
    before = {"slot": 3, "phase": "Joining"}
    cluster.kubectl("patch", *AS_CONTROLLER, "hah", own, "--subresource=status", "--type=merge", "-p", json.dumps({"status": before}))
    said = as_agent(own)(own, {"status": change})
    assert "an agent may change status.agent only" in said
    assert {key: status_of(cluster, own)[key] for key in before} == before


def test_an_agent_may_not_write_its_spec(hosts: tuple[str, str], as_agent: Callable[[str | None], Patch]) -> None:
    own, _ = hosts
    assert "forbidden" in as_agent(own)(own, {"spec": {"weight": 9}}, subresource=False)


def test_a_token_that_names_no_node_writes_nothing(cluster: Any, hosts: tuple[str, str], as_agent: Callable[[str | None], Patch]) -> None:
    own, _ = hosts
    assert "names no node" in as_agent(None)(own, report(True))
    assert status_of(cluster, own) == {}


@pytest.fixture
def pool(cluster: Any) -> Iterator[str]:
    """A pool without hosts."""
    name = f"hold-{uuid.uuid4().hex[:6]}"
    document = {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": name},
        "spec": {"hostSelector": {"matchLabels": {"hold": name}}, "heartbeat": {"storage": {"devicePath": "/dev/heartbeat"}}},
    }
    cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=json.dumps(document))
    yield name
    cluster.kubectl("delete", *AS_CONTROLLER, "hap", name)


def gates_of_new_pod(cluster: Any, component: str, **labels: str) -> list[str]:
    """Scheduling gates that a pod made now would have."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "hold-", "namespace": "quorate-system", "labels": {"kubevirt.io": component, **labels}},
        "spec": {"automountServiceAccountToken": False, "containers": [{"name": "compute", "image": "none"}]},
    }
    made = json.loads(cluster.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", stdin=json.dumps(pod)))
    return [gate["name"] for gate in made["spec"].get("schedulingGates", [])]


def test_launchers_wait_only_while_a_pool_recovers(cluster: Any, pool: str) -> None:
    assert gates_of_new_pod(cluster, "virt-launcher") == []

    def phase(name: str) -> None:
        cluster.kubectl(
            "patch", *AS_CONTROLLER, "hap", pool, "--subresource=status", "--type=merge", "-p", json.dumps({"status": {"phase": name}})
        )

    phase("Recovering")
    # The API server learns of parameters by watching them.
    cluster.eventually(
        lambda: gates_of_new_pod(cluster, "virt-launcher") == ["quorate.dev/recovery"], "new launcher pods are held", deadline_seconds=30
    )
    assert gates_of_new_pod(cluster, "virt-handler") == []
    assert gates_of_new_pod(cluster, "virt-launcher", **{"kubevirt.io/migrationJobUID": "x"}) == []
    phase("Armed")
    cluster.eventually(lambda: gates_of_new_pod(cluster, "virt-launcher") == [], "new launcher pods are held no more", deadline_seconds=30)
