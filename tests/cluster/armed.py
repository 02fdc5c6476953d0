"""An armed pool of real hosts with VMs of every protection, on the session's control plane; whoever makes one also removes it.

All VMs begin on the first host, so that its failure concerns every kind of them.
"""

import contextlib
import itertools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import yaml

from quorate_core.facts import Protection
from quorate_local import verdict, workload
from quorate_local.hosts import Host
from quorate_local.pool import LocalPool

Json = dict[str, Any]

CONTROLLERS = ("controller-a", "controller-b")
QUORATE = "/apis/quorate.dev/v1alpha1"


@dataclass(frozen=True, slots=True)
class Wish:
    """A VM: how far it is protected, its priority, and its run strategy."""

    protection: Protection
    priority: int = 0
    run_strategy: str = "Always"


@dataclass(frozen=True, slots=True)
class ArmedPool:
    """The pool under test. `name` is also the namespace of its VMs."""

    local: LocalPool
    name: str
    hosts: Mapping[str, Host]
    vms: Mapping[str, Wish]
    failures: int

    @property
    def protected(self) -> list[str]:
        """Names of the VMs with a guarantee."""
        return [name for name, wish in self.vms.items() if wish.protection is Protection.PROTECTED]

    def get(self, path: str) -> Json:
        """An object of Quorate's; empty if there is none."""
        return self.local.api.get(f"{QUORATE}/{path}") or {}

    def items(self, resource: str, *where: str) -> list[Json]:
        """Objects as kubectl gives them."""
        found: list[Json] = json.loads(self.local.kubectl("get", resource, *where, "-o", "json"))["items"]
        return found

    def where(self) -> dict[str, str]:
        """Host of each VM that runs."""
        vmis = self.items("vmis", "-n", self.name)
        return {v["metadata"]["name"]: v["status"]["nodeName"] for v in vmis if v.get("status", {}).get("phase") == "Running"}

    def busiest(self) -> Host:
        """The host with the most VMs."""
        places = list(self.where().values())
        return self.hosts[max(self.hosts, key=places.count)]

    def planned(self) -> dict[str, str]:
        """Where each VM is planned to restart; empty where nothing is."""
        return {p["metadata"]["name"]: p.get("status", {}).get("plannedHost", "") for p in self.items("protectedvms", "-n", self.name)}

    def certificate(self, host: str) -> Json:
        """The certificate of the present incarnation of a host, or nothing."""
        status = self.get(f"hahosts/{host}").get("status", {})
        found: Json = status.get("certificate") or {}
        return found if found.get("incarnation") == status.get("agent", {}).get("incarnation") else {}

    def failover(self, host: str, incarnation: str) -> Json:
        """The failover of that life of the host; empty until it begins."""
        return next((f for f in self.items("failovers") if f["spec"]["host"] == host and f["spec"]["incarnation"] == incarnation), {})

    def incarnation(self, host: str) -> str:
        """The present life of the host's agent."""
        found: str = self.get(f"hahosts/{host}")["status"]["agent"]["incarnation"]
        return found

    def slot(self, host: str) -> int:
        """The host's own block of the heartbeat disk."""
        found: int = self.get(f"hahosts/{host}")["status"]["slot"]
        return found

    def steady(self) -> bool:
        """Armed, every host live, a plan, every VM running and planned."""
        status = self.get(f"hapools/{self.name}").get("status", {})
        planned = self.planned()
        return (
            status.get("phase") == "Armed"
            and status.get("liveHosts") == len(self.hosts)
            and status.get("planExistsFor") == self.failures
            and set(self.where()) == set(self.vms)
            and all(planned.get(name) for name in self.protected)
            and not any(self.out_of_service(host) for host in self.hosts)
            and all(self.local.node_ready(host) for host in self.hosts)
        )

    def condition(self, host: str, type_: str) -> Json:
        """A condition of the host's Node."""
        node = self.local.api.get(f"/api/v1/nodes/{host}") or {}
        return next((c for c in node.get("status", {}).get("conditions", []) if c["type"] == type_), {})

    def out_of_service(self, host: str) -> bool:
        """Whether its Node carries the taint."""
        node = self.local.api.get(f"/api/v1/nodes/{host}") or {}
        return any(t["key"] == "node.kubernetes.io/out-of-service" for t in node["spec"].get("taints", []))

    def await_steady(self) -> None:
        """Until it is."""
        self.local.eventually(self.steady, "the pool is armed, whole and planned", deadline_seconds=240)

    def await_completed(self, host: str, incarnation: str) -> Json:
        """The failover once it is completed."""
        self.local.eventually(
            lambda: self.failover(host, incarnation).get("status", {}).get("phase") == "Completed",
            f"the failover of {host} is completed",
            deadline_seconds=240,
        )
        return self.failover(host, incarnation)

    def check_disks(self) -> dict[str, verdict.DiskHistory]:
        """No VM ever ran twice, by the word of its disk."""
        found = {h.disk.removeprefix(f"{self.name}-"): h for h in verdict.read_disks(self.local.disks.glob(f"{self.name}-*.disk"))}
        assert set(found) == set(self.vms)
        assert {name: history.conflicts for name, history in found.items() if history.conflicts} == {}
        return found

    def progress(self, failover: Json) -> dict[str, Json]:
        """How far the restart of each VM has come, by VM."""
        return {p["vm"].removeprefix(f"{self.name}/"): p for p in failover["status"]["vms"]}

    def check_order(self, failover: Json) -> None:
        """No VM of a priority was let go before all of the priority before it ran; best-effort after all protected."""
        found = self.progress(failover)
        ranks: dict[tuple[int, int], list[Json]] = {}
        for name, wish in self.vms.items():
            if name in found and wish.protection is not Protection.UNPROTECTED:
                rank = (0, wish.priority) if wish.protection is Protection.PROTECTED else (1, 0)
                ranks.setdefault(rank, []).append(found[name])
        for earlier, later in itertools.pairwise(sorted(ranks)):
            ran = max(datetime.fromisoformat(p["runningAt"]) for p in ranks[earlier])
            assert all(datetime.fromisoformat(p["placedAt"]) >= ran for p in ranks[later]), f"{later} before {earlier}"


@contextlib.contextmanager
def armed_pool(
    cluster: LocalPool,
    name: str,
    vms: Mapping[str, Wish],
    *,
    hosts: int,
    failures: int = 1,
    begin_on: Sequence[int] = (1,),
) -> Iterator[ArmedPool]:
    """A steady pool of hosts named `NAME-1` and so on; its VMs begin on the hosts with the numbers `begin_on`."""
    label = {"quorate.test/pool": name}
    made = {host: cluster.add_host(host, memory="8Gi", labels=label) for host in (f"{name}-{number}" for number in range(1, hosts + 1))}
    try:
        for identity in CONTROLLERS:
            cluster.start_controller(identity)
        for host in made:
            cluster.eventually(lambda host=host: cluster.node_ready(host), f"{host} is Ready", deadline_seconds=120)  # type: ignore[misc]
        pool = ArmedPool(cluster, name, made, vms, failures)
        _run_vms(pool, label, {f"{name}-{number}" for number in begin_on})
        _arm(pool, label)
        pool.await_steady()
        yield pool
    finally:
        if cluster.isolated:
            cluster.heal()
        cluster.rack.reboot_after_seconds = 3.0
        cluster.kubectl("delete", "protectedvms", "--all", "-n", name, check=False)
        cluster.kubectl("delete", "vms", "--all", "-n", name, "--wait=false", check=False)
        cluster.kubectl("delete", "hapool", name, check=False)
        for identity in CONTROLLERS:
            cluster.kill_controller(identity)
        for host in made:
            cluster.remove_host(host)
        cluster.kubectl("delete", "namespace", name, "--wait=false", check=False)


def _run_vms(pool: ArmedPool, label: Mapping[str, str], begin_on: Collection[str]) -> None:
    cluster, name = pool.local, pool.name
    for host in pool.hosts.keys() - begin_on:
        cluster.kubectl("cordon", host)
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    cluster.kubectl("apply", "-f", "-", stdin=_documents([d for vm in pool.vms for d in _vm_manifests(pool, vm, label)]))
    for vm, wish in pool.vms.items():
        if wish.run_strategy == "Manual":
            cluster.virtctl("start", vm, "-n", name)
    cluster.eventually(lambda: set(pool.where()) == set(pool.vms), "all VMs run", deadline_seconds=180)
    for host in pool.hosts:
        cluster.kubectl("uncordon", host)


def _arm(pool: ArmedPool, label: Mapping[str, str]) -> None:
    cluster, name = pool.local, pool.name
    disk = cluster.heartbeat_disk.with_name(f"{name}.disk")
    disk.write_bytes(bytes(cluster.heartbeat_disk.stat().st_size))
    cluster.api.create(f"{QUORATE}/hapools", _hapool(pool, str(disk), label))
    wishes = [
        workload.protection_manifest(workload.DemoVm(vm, 1, wish.protection, wish.priority), name, namespace=name)
        for vm, wish in pool.vms.items()
        if wish.protection is not Protection.UNPROTECTED
    ]
    cluster.eventually(
        lambda: pool.get(f"hapools/{name}").get("status", {}).get("hosts") == len(pool.hosts),
        "the pool has its hosts",
        deadline_seconds=180,
    )
    cluster.kubectl("apply", "-f", "-", stdin=_documents(wishes))


def _documents(objects: list[Json]) -> str:
    return "\n---\n".join(yaml.safe_dump(obj) for obj in objects)


def _vm_manifests(pool: ArmedPool, vm: str, label: Mapping[str, str]) -> list[Json]:
    manifest = workload.vm_manifest(vm, 1, namespace=pool.name, run_strategy=pool.vms[vm].run_strategy)
    manifest["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "256Mi"
    manifest["spec"]["template"]["spec"]["nodeSelector"] = dict(label)
    return [*workload.disk_manifests(vm, pool.name), manifest]


def _hapool(pool: ArmedPool, disk: str, label: Mapping[str, str]) -> Json:
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": pool.name},
        "spec": {
            "hostFailuresToTolerate": pool.failures,
            "hostSelector": {"matchLabels": dict(label)},
            "heartbeat": {"storage": {"devicePath": disk}, "timing": {"licenceSeconds": 6, "watchdogSeconds": 2}},
            "watchdog": {"device": pool.local.watchdog_device},
        },
    }
