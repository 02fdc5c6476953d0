"""The controller against a real API server with KubeVirt: its objects, its numbers, its leadership, a kill in a burst of changes."""

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import quorate_planner as planner
from quorate_controller.observe import parse_dump
from quorate_controller.translate import snapshot_of
from quorate_local.api import ApiError
from quorate_local.pool import LocalPool

pytestmark = pytest.mark.cluster

Json = dict[str, Any]
POOL = "steady"
LABEL = {"quorate.test/pool": POOL}
HOSTS = ("steady-1", "steady-2", "steady-3")
REPLICAS = ("controller-a", "controller-b")
QUORATE = "/apis/quorate.dev/v1alpha1"
DUMP = "nodes,pods,vms,vmis,pvc,pv,hapools,hahosts,protectedvms"


@pytest.fixture(scope="module")
def steady(cluster: LocalPool) -> Iterator[LocalPool]:
    """Three light hosts of 16 GiB in an armed pool, two replicas."""
    cluster.light_hosts(len(HOSTS), memory="16Gi", prefix="steady", labels=LABEL)
    for replica in REPLICAS:
        cluster.start_controller(replica)
    cluster.api.create(f"{QUORATE}/hapools", hapool(cluster, POOL))
    cluster.eventually(lambda: status(cluster, f"hapools/{POOL}").get("phase") == "Armed", f"{POOL} is armed", deadline_seconds=120)
    yield cluster
    cluster.api.delete(f"{QUORATE}/hapools/{POOL}")
    for replica in REPLICAS:
        cluster.stop_controller(replica)
    cluster.light_hosts_gone("steady")


def hapool(cluster: LocalPool, name: str, tolerate: int = 1) -> Json:
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": name},
        "spec": {
            "hostFailuresToTolerate": tolerate,
            "hostSelector": {"matchLabels": LABEL},
            "heartbeat": {"storage": {"devicePath": str(cluster.heartbeat_disk)}},
        },
    }


def vm(namespace: str, name: str, guest: str = "256Mi", *, strategy: str = "Halted", labels: dict[str, str] | None = None) -> Json:
    """A VM without disks, which may run on the pool's hosts only."""
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace, "labels": labels or {}},
        "spec": {
            "runStrategy": strategy,
            "template": {
                "spec": {
                    "nodeSelector": LABEL,
                    "terminationGracePeriodSeconds": 0,
                    "domain": {"memory": {"guest": guest}, "devices": {"autoattachPodInterface": False}},
                }
            },
        },
    }


def create_vm(cluster: LocalPool, namespace: str, name: str, **arguments: Any) -> None:
    """Create it, trying again while no webhook answers (a replica has just been killed)."""

    def created() -> bool:
        try:
            cluster.api.create(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines", vm(namespace, name, **arguments))
        except ApiError as error:
            if error.status < 500:
                raise
            return False
        return True

    cluster.eventually(created, f"{name} is created")


def status(cluster: LocalPool, path: str) -> Json:
    obj = cluster.api.get(f"{QUORATE}/{path}") or {}
    found: Json = obj.get("status") or {}
    return found


def condition(found: Json, type_: str) -> Json:
    return next((c for c in found.get("conditions", []) if c["type"] == type_), {})


def protected(namespace: str, name: str) -> str:
    return f"namespaces/{namespace}/protectedvms/{name}"


def leader(cluster: LocalPool) -> str:
    lease = cluster.api.get("/apis/coordination.k8s.io/v1/namespaces/quorate-system/leases/quorate-controller") or {}
    return str(lease.get("spec", {}).get("holderIdentity", ""))


def test_every_selected_node_has_an_hahost_with_its_own_slot_and_its_address(steady: LocalPool) -> None:
    found = [status(steady, f"hahosts/{name}") for name in HOSTS]
    assert sorted(host["slot"] for host in found) == [0, 1, 2]
    assert len({host["address"] for host in found}) == 3
    assert all(host["memory"]["allocatableBytes"] == 16 * 1024**3 for host in found)


def test_an_armed_pool_says_so_with_numbers_conditions_and_an_event(steady: LocalPool) -> None:
    found = status(steady, f"hapools/{POOL}")
    assert (found["hosts"], found["liveHosts"], found["planExistsFor"]) == (3, 3, 1)
    assert condition(found, "Armed")["status"] == "True"
    assert condition(found, "PlanHolds")["observedGeneration"] == 1
    said = steady.kubectl("get", "events", "-n", "default", "--field-selector", f"involvedObject.name={POOL}", "-o", "name")
    assert "event/" in said


def test_disks_that_a_pool_changes_away_and_back_come_into_force_under_rising_generations(steady: LocalPool) -> None:
    name = "moving"
    spec = {**hapool(steady, name)["spec"], "hostSelector": {"matchLabels": {"moving": "nobody"}}, "enabled": False}
    steady.api.create(f"{QUORATE}/hapools", {**hapool(steady, name), "spec": spec})
    try:
        first = str(steady.heartbeat_disk)
        for generation, path in enumerate((first, "/dev/second", first), 1):
            changed = json.dumps({"spec": {"heartbeat": {"storage": {"devicePath": path}}}})
            steady.kubectl("patch", "hap", name, "--type=merge", "-p", changed)
            expected = {"storage": {"devicePath": path, "additionalDevicePaths": []}, "generation": generation}
            steady.eventually(lambda e=expected: status(steady, f"hapools/{name}").get("heartbeat") == e, f"generation {generation}")
    finally:
        steady.api.delete(f"{QUORATE}/hapools/{name}")


def test_both_replicas_are_alive_and_ready_and_one_leads(steady: LocalPool) -> None:
    leading = [steady.quorate.controller_get(name, "/metrics")[1].count("quorate_leader 1.0") for name in REPLICAS]
    assert sorted(leading) == [0, 1]
    assert all(steady.quorate.controller_get(name, page)[0] == 200 for name in REPLICAS for page in ("/livez", "/readyz"))


def test_a_label_creates_a_protected_vm_that_follows_it_and_goes_with_it(steady: LocalPool, namespace: str) -> None:
    create_vm(steady, namespace, "labelled", labels={"quorate.dev/protection": "BestEffort"})
    path = f"{QUORATE}/{protected(namespace, 'labelled')}"
    steady.eventually(lambda: steady.api.get(path), "the ProtectedVM exists")
    owners = (steady.api.get(path) or {})["metadata"]["ownerReferences"]
    assert [(owner["kind"], owner["name"]) for owner in owners] == [("VirtualMachine", "labelled")]
    steady.kubectl("label", "vm", "labelled", "-n", namespace, "--overwrite", "quorate.dev/protection=Protected", "quorate.dev/priority=3")

    def follows() -> bool:
        spec = (steady.api.get(path) or {"spec": {}})["spec"]
        return (spec.get("protection"), spec.get("priority")) == ("Protected", 3)

    steady.eventually(follows, "the ProtectedVM follows the label")
    steady.kubectl("label", "vm", "labelled", "-n", namespace, "quorate.dev/protection-", "quorate.dev/priority-")
    steady.eventually(lambda: steady.api.get(path) is None, "the ProtectedVM is gone with the label")


def test_a_protected_vm_whose_vm_is_missing_says_which(steady: LocalPool, namespace: str) -> None:
    body = {"metadata": {"name": "lonely"}, "spec": {"vmRef": {"name": "nobody"}, "protection": "BestEffort"}}
    body |= {"apiVersion": "quorate.dev/v1alpha1", "kind": "ProtectedVM"}
    steady.api.create(f"{QUORATE}/namespaces/{namespace}/protectedvms", body)
    path = protected(namespace, "lonely")
    steady.eventually(lambda: status(steady, path).get("phase") == "Failed", "it is Failed")
    assert condition(status(steady, path), "Ready")["message"] == f"spec.vmRef.name: there is no VirtualMachine {namespace}/nobody"


def test_a_running_vm_has_a_host_a_planned_host_and_grows_in_the_plan_at_once(steady: LocalPool, namespace: str) -> None:
    create_vm(steady, namespace, "grows", guest="1Gi", strategy="Always", labels={"quorate.dev/protection": "Protected"})
    path = protected(namespace, "grows")
    steady.eventually(lambda: status(steady, path).get("phase") == "Protected", "it is protected", deadline_seconds=120)
    before = status(steady, path)
    assert before["host"] in HOSTS
    assert before["plannedHost"] in set(HOSTS) - {before["host"]}
    assert before["candidateHosts"] == 2
    patch = {"spec": {"template": {"spec": {"domain": {"memory": {"guest": "3Gi"}}}}}}
    steady.kubectl("patch", "vm", "grows", "-n", namespace, "--type=merge", "-p", json.dumps(patch))
    grown = before["memoryBytes"] + 2 * 1024**3
    steady.eventually(lambda: status(steady, path).get("memoryBytes", 0) >= grown, "its new size is planned for")


def test_the_plan_of_a_dump_has_the_numbers_of_the_live_status(steady: LocalPool, namespace: str) -> None:
    create_vm(steady, namespace, "counted", guest="2Gi", strategy="Always", labels={"quorate.dev/protection": "Protected"})
    steady.eventually(lambda: status(steady, protected(namespace, "counted")).get("host"), "it runs", deadline_seconds=120)

    def same() -> bool:
        dump = parse_dump([("dump", steady.kubectl("get", DUMP, "-A", "-o", "yaml"))])
        plan = planner.plan(snapshot_of(dump, POOL))
        live = status(steady, f"hapools/{POOL}")
        most = {"lower": plan.lower, "upper": plan.upper, "exact": plan.exact}
        numbers = (live["hosts"], live["protectedVMs"], live["maxHostFailuresToTolerate"], live["overcommitted"])
        return numbers == (plan.hosts, plan.protected_vms, most, plan.overcommitted)

    steady.eventually(same, "the dump's plan has the live numbers")


def test_a_second_pool_that_claims_a_host_is_refused_and_one_that_a_label_lets_in_gets_no_host(steady: LocalPool) -> None:
    with pytest.raises(ApiError, match=f"Node steady-1 is selected by pools rival and {POOL}; it stays with {POOL}"):
        steady.api.create(f"{QUORATE}/hapools", hapool(steady, "rival"))
    rival = hapool(steady, "rival")
    rival["spec"]["hostSelector"] = {"matchLabels": {"quorate.test/rival": "yes"}}
    steady.api.create(f"{QUORATE}/hapools", rival)
    try:
        steady.kubectl("label", "node", "steady-1", "quorate.test/rival=yes")
        for path in (f"hapools/{POOL}", "hapools/rival"):
            steady.eventually(
                lambda path=path: condition(status(steady, path), "Ready").get("reason") == "HostInTwoPools",  # type: ignore[misc]  # default binds
                f"{path} says that a host is in two pools",
            )
        message = condition(status(steady, "hapools/rival"), "Ready")["message"]
        assert f"Node steady-1 is selected by pools rival and {POOL}; it stays with {POOL}" in message
        assert (status(steady, "hapools/rival")["hosts"], status(steady, f"hapools/{POOL}")["hosts"]) == (0, 3)
        assert status(steady, f"hapools/{POOL}")["phase"] == "Armed"
    finally:
        steady.kubectl("label", "node", "steady-1", "quorate.test/rival-")
        steady.api.delete(f"{QUORATE}/hapools/rival")
    steady.eventually(
        lambda: condition(status(steady, f"hapools/{POOL}"), "Ready").get("reason") != "HostInTwoPools", "the claim is forgotten"
    )


def test_a_leader_killed_in_a_burst_of_changes_is_replaced_and_everything_converges(steady: LocalPool, namespace: str) -> None:
    names = [f"burst-{number:02}" for number in range(24)]
    half = threading.Event()
    failed: list[BaseException] = []

    def burst() -> None:
        try:
            for number, name in enumerate(names):
                create_vm(steady, namespace, name, labels={"quorate.dev/protection": "Protected" if number % 2 else "BestEffort"})
                if number == len(names) // 3:
                    half.set()
            for name in names[::4]:
                steady.kubectl("label", "vm", name, "-n", namespace, "quorate.dev/protection-")
        except BaseException as error:
            failed.append(error)
            half.set()

    creating = threading.Thread(target=burst)
    creating.start()
    half.wait(120)
    first = leader(steady)
    assert first in REPLICAS
    steady.kill_controller(first)
    creating.join(120)
    assert not failed
    steady.eventually(lambda: leader(steady) not in {"", first}, "the other replica leads", deadline_seconds=60)
    steady.start_controller(first)
    expected = {name: ("Protected" if number % 2 else "BestEffort") for number, name in enumerate(names) if number % 4}

    def converged() -> bool:
        found = (steady.api.get(f"{QUORATE}/namespaces/{namespace}/protectedvms") or {"items": []})["items"]
        wished = {pvm["metadata"]["name"]: pvm["spec"]["protection"] for pvm in found}
        return wished == expected and all(pvm.get("status", {}).get("phase") == "Stopped" for pvm in found)

    steady.eventually(converged, "every label has its ProtectedVM with a status", deadline_seconds=60)
