"""Host failures on a real API server with KubeVirt and real agents: what restarts, where, in which order, and what does not."""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from quorate_core.facts import Protection
from quorate_local import verdict, workload
from quorate_local.hosts import Host
from quorate_local.pool import LocalPool

Json = dict[str, Any]

POOL = "failing"
SPACE = "failing"
LABEL = {"quorate.test/pool": POOL}
CONTROLLERS = ("controller-a", "controller-b")
QUORATE = "/apis/quorate.dev/v1alpha1"
BOUND_SECONDS = 23.0
"""R_s of the pool below; the tests wait at least so long where nothing may happen."""
VMS = {
    "db": (Protection.PROTECTED, 0, "Always"),
    "db-manual": (Protection.PROTECTED, 0, "Manual"),
    "app": (Protection.PROTECTED, 1, "Always"),
    "app-rerun": (Protection.PROTECTED, 1, "RerunOnFailure"),
    "web": (Protection.PROTECTED, 2, "Always"),
    "batch": (Protection.BEST_EFFORT, 0, "Always"),
    "other": (Protection.UNPROTECTED, 0, "Always"),
}
PROTECTED = [name for name, (protection, _, _) in VMS.items() if protection is Protection.PROTECTED]


@dataclass
class Failing:
    """The pool under test."""

    local: LocalPool
    hosts: dict[str, Host]

    def get(self, path: str) -> Json:
        return self.local.api.get(f"{QUORATE}/{path}") or {}

    def items(self, resource: str, *where: str) -> list[Json]:
        found: list[Json] = json.loads(self.local.kubectl("get", resource, *where, "-o", "json"))["items"]
        return found

    def where(self) -> dict[str, str]:
        """Host of each VM that runs."""
        vmis = self.items("vmis", "-n", SPACE)
        return {v["metadata"]["name"]: v["status"]["nodeName"] for v in vmis if v.get("status", {}).get("phase") == "Running"}

    def busiest(self) -> Host:
        places = list(self.where().values())
        return self.hosts[max(self.hosts, key=places.count)]

    def planned(self) -> dict[str, str]:
        return {p["metadata"]["name"]: p.get("status", {}).get("plannedHost", "") for p in self.items("protectedvms", "-n", SPACE)}

    def certificate(self, host: str) -> Json:
        """The certificate of the present incarnation of a host, or nothing."""
        status = self.get(f"hahosts/{host}").get("status", {})
        found: Json = status.get("certificate") or {}
        return found if found.get("incarnation") == status.get("agent", {}).get("incarnation") else {}

    def failover(self, host: str, incarnation: str) -> Json:
        return next((f for f in self.items("failovers") if f["spec"]["host"] == host and f["spec"]["incarnation"] == incarnation), {})

    def incarnation(self, host: str) -> str:
        found: str = self.get(f"hahosts/{host}")["status"]["agent"]["incarnation"]
        return found

    def steady(self) -> bool:
        """Armed, every host live, a plan, every VM running and planned."""
        status = self.get(f"hapools/{POOL}").get("status", {})
        planned = self.planned()
        return (
            status.get("phase") == "Armed"
            and status.get("liveHosts") == len(self.hosts)
            and status.get("planExistsFor") == 1
            and set(self.where()) == set(VMS)
            and all(planned.get(name) for name in PROTECTED)
            and not any(self.out_of_service(host) for host in self.hosts)
            and all(self.local.node_ready(host) for host in self.hosts)
        )

    def survivors_stayed_ready(self, dead: str, since: datetime) -> bool:
        """Whether no other Node of the pool was called NotReady since; on a starved machine their leases may be late."""
        ready = (self.condition(host, "Ready") for host in self.hosts if host != dead)
        return all(c.get("status") == "True" and datetime.fromisoformat(c["lastTransitionTime"]) < since for c in ready)

    def condition(self, host: str, type_: str) -> Json:
        node = self.local.api.get(f"/api/v1/nodes/{host}") or {}
        return next((c for c in node.get("status", {}).get("conditions", []) if c["type"] == type_), {})

    def out_of_service(self, host: str) -> bool:
        node = self.local.api.get(f"/api/v1/nodes/{host}") or {}
        return any(t["key"] == "node.kubernetes.io/out-of-service" for t in node["spec"].get("taints", []))

    def await_steady(self) -> None:
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
        found = {h.disk.removeprefix(f"{SPACE}-"): h for h in verdict.read_disks(self.local.disks.glob(f"{SPACE}-*.disk"))}
        assert set(found) == set(VMS)
        assert {name: history.conflicts for name, history in found.items() if history.conflicts} == {}
        return found


@pytest.fixture(scope="module")
def failing(cluster: LocalPool) -> Iterator[Failing]:
    """Three real hosts in an armed pool; all VMs begin on the first host, so that its failure concerns every kind of them."""
    hosts = {name: cluster.add_host(name, memory="8Gi", labels=LABEL) for name in ("failing-1", "failing-2", "failing-3")}
    for identity in CONTROLLERS:
        cluster.start_controller(identity)
    for name in hosts:
        cluster.eventually(lambda name=name: cluster.node_ready(name), f"{name} is Ready")  # type: ignore[misc]
    disk = cluster.heartbeat_disk.with_name("failing.disk")
    disk.write_bytes(bytes(cluster.heartbeat_disk.stat().st_size))
    for name in list(hosts)[1:]:
        cluster.kubectl("cordon", name)
    cluster.api.create("/api/v1/namespaces", {"metadata": {"name": SPACE}})
    cluster.kubectl("apply", "-f", "-", stdin=documents([d for name in VMS for d in vm_manifests(name)]))
    cluster.virtctl("start", "db-manual", "-n", SPACE)
    pool = Failing(cluster, hosts)
    cluster.eventually(lambda: set(pool.where()) == set(VMS), "all VMs run", deadline_seconds=180)
    for name in hosts:
        cluster.kubectl("uncordon", name)
    cluster.api.create(f"{QUORATE}/hapools", hapool(str(disk), cluster.watchdog_device))
    wishes = [
        workload.protection_manifest(workload.DemoVm(name, 1, protection, priority), POOL, namespace=SPACE)
        for name, (protection, priority, _) in VMS.items()
        if protection is not Protection.UNPROTECTED
    ]
    cluster.eventually(lambda: pool.get(f"hapools/{POOL}").get("status", {}).get("hosts") == len(hosts), "the pool has its hosts")
    cluster.kubectl("apply", "-f", "-", stdin=documents(wishes))
    pool.await_steady()
    yield pool
    cluster.rack.reboot_after_seconds = 3.0
    cluster.kubectl("delete", "protectedvms", "--all", "-n", SPACE, check=False)
    cluster.kubectl("delete", "vms", "--all", "-n", SPACE, "--wait=false", check=False)
    cluster.kubectl("delete", "hapool", POOL, check=False)
    for identity in CONTROLLERS:
        cluster.kill_controller(identity)
    for name in hosts:
        cluster.remove_host(name)
    cluster.kubectl("delete", "namespace", SPACE, "--wait=false", check=False)


def documents(objects: list[Json]) -> str:
    return "\n---\n".join(yaml.safe_dump(obj) for obj in objects)


def vm_manifests(name: str) -> list[Json]:
    vm = workload.vm_manifest(name, 1, namespace=SPACE, run_strategy=VMS[name][2])
    vm["spec"]["template"]["spec"]["domain"]["memory"]["guest"] = "256Mi"
    vm["spec"]["template"]["spec"]["nodeSelector"] = LABEL
    return [*workload.disk_manifests(name, SPACE), vm]


def hapool(disk: str, watchdog: str) -> Json:
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": POOL},
        "spec": {
            "hostFailuresToTolerate": 1,
            "hostSelector": {"matchLabels": LABEL},
            "heartbeat": {"storage": {"devicePath": disk}, "timing": {"licenceSeconds": 6, "watchdogSeconds": 2}},
            "watchdog": {"device": watchdog},
        },
    }


def progress(failover: Json) -> dict[str, Json]:
    return {p["vm"].removeprefix(f"{SPACE}/"): p for p in failover["status"]["vms"]}


def check_order(failover: Json) -> None:
    """No VM of a priority was let go before all of the priority before it ran; best-effort after all protected."""
    found = progress(failover)
    ranks: dict[tuple[int, int], list[Json]] = {}
    for name, (protection, priority, _) in VMS.items():
        if name in found and protection is not Protection.UNPROTECTED:
            rank = (0, priority) if protection is Protection.PROTECTED else (1, 0)
            ranks.setdefault(rank, []).append(found[name])
    for earlier, later in itertools.pairwise(sorted(ranks)):
        ran = max(datetime.fromisoformat(p["runningAt"]) for p in ranks[earlier])
        assert all(datetime.fromisoformat(p["placedAt"]) >= ran for p in ranks[later]), f"{later} before {earlier}"


def test_a_node_that_the_api_server_calls_not_ready_but_whose_heartbeats_are_fine_is_left_alone(failing: Failing) -> None:
    failing.await_steady()
    victim, before = failing.busiest(), failing.where()
    lives = {name: len(history.runs) for name, history in failing.check_disks().items()}
    victim.pause("standin")
    try:
        failing.local.eventually(
            lambda: failing.condition(victim.name, "Ready").get("status") != "True",
            f"{victim.name} is called NotReady",
            deadline_seconds=120,
        )
        end = time.monotonic() + BOUND_SECONDS + 5
        while time.monotonic() < end:
            status = failing.get(f"hahosts/{victim.name}")["status"]
            assert status["phase"] == "Live"
            assert not failing.certificate(victim.name)
            time.sleep(2)
        assert victim.is_on()
    finally:
        victim.resume("standin")
    assert failing.failover(victim.name, failing.incarnation(victim.name)) == {}
    failing.local.eventually(
        lambda: failing.condition(victim.name, "Ready").get("status") == "True", f"{victim.name} is Ready again", deadline_seconds=60
    )
    assert failing.where() == before
    assert {name: len(history.runs) for name, history in failing.check_disks().items()} == lives


def test_a_host_that_dies_is_certified_and_its_vms_restart_in_order_where_the_plan_said(failing: Failing) -> None:
    failing.await_steady()
    victim, planned = failing.busiest(), failing.planned()
    here = {name for name, host in failing.where().items() if host == victim.name}
    life = failing.incarnation(victim.name)
    failing.local.rack.reboot_after_seconds = None
    died_at = datetime.now(UTC)
    victim.power_off()
    failover = failing.await_completed(victim.name, life)
    certificate = failing.certificate(victim.name)
    assert certificate["silentSeconds"] >= certificate["boundSeconds"] >= BOUND_SECONDS
    assert certificate["issuedBy"] != victim.name
    found = progress(failover)
    assert set(found) == here
    assert {name: found[name]["phase"] for name in here} == dict.fromkeys(here, "Running") | {"other": found["other"]["phase"]}
    protected = [name for name in here if name in PROTECTED]
    if failing.survivors_stayed_ready(victim.name, died_at):  # else the plan itself changed before the death was certified
        assert {r["vm"].removeprefix(f"{SPACE}/"): r.get("plannedHost") for r in failover["spec"]["restarts"]}.items() >= {
            name: planned[name] for name in protected
        }.items()
        assert {name: found[name]["host"] for name in protected} == {name: planned[name] for name in protected}
    held = next(c for c in failover["status"]["conditions"] if c["type"] == "RestartsHeld")
    assert held["status"] == "True", held
    check_order(failover)
    failing.local.eventually(lambda: set(failing.where()) == set(VMS), "every VM runs again", deadline_seconds=90)
    assert victim.name not in failing.where().values()
    histories = failing.check_disks()
    assert {name: histories[name].runs[-1].host for name in here} == {name: failing.where()[name] for name in here}
    assert failing.out_of_service(victim.name)
    victim.power_on()
    failing.await_steady()
    failing.local.eventually(
        lambda: failing.failover(victim.name, life)["status"].get("hostReturnedAt"), "the return is recorded", deadline_seconds=30
    )
    pods = failing.items("pods", "-n", SPACE)
    assert [p["metadata"]["name"] for p in pods if p["spec"].get("schedulingGates")] == []


def test_a_host_without_heartbeats_but_with_a_healthy_api_connection_is_fenced_certified_and_restarted(failing: Failing) -> None:
    failing.await_steady()
    victim = failing.busiest()
    here = {name for name, host in failing.where().items() if host == victim.name}
    life = failing.incarnation(victim.name)
    failing.local.rack.reboot_after_seconds = None
    victim.pause("pulse")
    failing.local.eventually(lambda: not victim.is_on(), f"the watchdog resets {victim.name}", deadline_seconds=60)
    check_order(failing.await_completed(victim.name, life))
    failing.local.eventually(lambda: here <= set(failing.where()), "every VM runs again", deadline_seconds=90)
    assert victim.name not in failing.where().values()
    failing.check_disks()
    victim.power_on()
    failing.await_steady()


def test_a_controller_killed_in_the_middle_of_a_failover_loses_and_doubles_nothing(failing: Failing) -> None:
    failing.await_steady()
    victim = failing.busiest()
    here = {name for name, host in failing.where().items() if host == victim.name}
    life = failing.incarnation(victim.name)
    failing.local.rack.reboot_after_seconds = None
    victim.power_off()
    failing.local.eventually(lambda: failing.failover(victim.name, life), f"the failover of {victim.name} begins", deadline_seconds=120)
    for identity in CONTROLLERS:
        failing.local.kill_controller(identity)
    seen = failing.failover(victim.name, life)
    assert seen.get("status", {}).get("phase") != "Completed", "the failover was over before the kill: nothing is tested"
    for identity in CONTROLLERS:
        failing.local.start_controller(identity)
    failover = failing.await_completed(victim.name, life)
    assert set(progress(failover)) == here
    failing.local.eventually(lambda: set(failing.where()) == set(VMS), "every VM runs again", deadline_seconds=90)
    failing.check_disks()
    assert len([f for f in failing.items("failovers") if f["spec"]["incarnation"] == life]) == 1
    victim.power_on()
    failing.await_steady()
