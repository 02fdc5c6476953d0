"""Admission on a real API server with KubeVirt's own virt-api in the path and two replicas of the webhook behind one address."""

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import quorate_planner as planner
from quorate_controller import kube
from quorate_controller.kube import Json, Kube
from quorate_controller.observe import Observed, observe
from quorate_controller.translate import snapshot_of
from quorate_core.facts import Snapshot
from quorate_local.pool import LocalPool

pytestmark = pytest.mark.cluster

POOL = "admission"
LABEL = {"quorate.test/pool": POOL}
HOSTS = 4
HOST_GIB = 16
REPLICAS: dict[str, dict[str, bool]] = {"controller-a": {"webhook": False}, "admission-a": {"lead": False}, "admission-b": {"lead": False}}
"""The processes that the chart starts, each with what it is told to do."""


@pytest.fixture(scope="module")
def armed(cluster: LocalPool) -> Iterator[LocalPool]:
    """Four light hosts of 16 GiB in an armed pool that tolerates one failure, and two replicas that answer admission requests."""
    cluster.light_hosts(HOSTS, memory=f"{HOST_GIB}Gi", prefix=POOL, labels=LABEL)
    for replica, parts in REPLICAS.items():
        cluster.start_controller(replica, **parts)
    spec = {"hostSelector": {"matchLabels": LABEL}, "heartbeat": {"storage": {"devicePath": str(cluster.heartbeat_disk)}}}
    apply(cluster, {"apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool", "metadata": {"name": POOL}, "spec": spec})
    cluster.eventually(lambda: phase(cluster) == "Armed", f"pool {POOL} is armed", deadline_seconds=120)
    yield cluster
    cluster.kubectl("delete", "hapool", POOL, "--wait=false")
    for replica in REPLICAS:
        cluster.kill_controller(replica)
    cluster.light_hosts_gone(POOL)


@pytest.fixture
def place(armed: LocalPool, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace of the test's own; its VMs, protected or not, have left the pool before the next test starts."""
    for (
        replica,
        parts,
    ) in REPLICAS.items():  # a leader that could not renew its lease on a busy machine has ended; a Deployment would start it again
        if not armed.quorate.controller_ready(replica):
            armed.kill_controller(replica)
            armed.start_controller(replica, **parts)
    name = "adm-" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[-40:].strip("-")
    armed.kubectl("create", "namespace", name)
    armed.kubectl("patch", "hapool", POOL, "--type=merge", "-p", '{"spec":{"hostFailuresToTolerate":1,"overcommitPolicy":"Refuse"}}')
    yield name
    armed.kubectl("delete", "namespace", name, "--wait=false")
    armed.eventually(lambda: empty(armed), f"no VM of namespace {name} is left in the pool", deadline_seconds=240)
    # What was admitted for VMs that are deleted by now stays reserved for a while; the next test begins with an empty ledger.
    armed.api.delete(f"/api/v1/namespaces/quorate-system/configmaps/quorate-ledger-{POOL}")


def apply(cluster: LocalPool, *objects: Json, server_dry_run: bool = False) -> str:
    """What kubectl apply says, refusals included."""
    flags = ["--dry-run=server"] if server_dry_run else []
    return cluster.kubectl(
        "apply", *flags, "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}), check=False
    )


def phase(cluster: LocalPool) -> str | None:
    """The pool's phase."""
    found = cluster.api.get(f"/apis/quorate.dev/v1alpha1/hapools/{POOL}") or {}
    said: str | None = (found.get("status") or {}).get("phase")
    return said


def vm(namespace: str, name: str, gib: int, strategy: str = "Always", protection: str | None = None, **metadata: Any) -> Json:
    """A VM without disks that may run on the pool's hosts only."""
    labels = {"quorate.dev/protection": protection} if protection else {}
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": namespace, "labels": labels, **metadata},
        "spec": {
            "runStrategy": strategy,
            "template": {
                "metadata": {"labels": {"quorate.test/vm": name}},
                "spec": {
                    "nodeSelector": LABEL,
                    "terminationGracePeriodSeconds": 0,
                    "domain": {"memory": {"guest": f"{gib}Gi"}, "devices": {"autoattachPodInterface": False}},
                },
            },
        },
    }


def protected_vm(namespace: str, name: str, protection: str = "Protected") -> Json:
    """A ProtectedVM for the VM of that name."""
    spec = {"vmRef": {"name": name}, "pool": POOL, "protection": protection}
    return {"apiVersion": "quorate.dev/v1alpha1", "kind": "ProtectedVM", "metadata": {"name": name, "namespace": namespace}, "spec": spec}


def with_kube(cluster: LocalPool, work: Any) -> Any:
    """Run `work(kube)` with a client that sends everything at once."""

    async def run() -> Any:
        api = await Kube.connect(cluster.kubeconfig, concurrency=250, request_seconds=60)
        try:
            return await work(api)
        finally:
            await api.close()

    return asyncio.run(run())


def seen(cluster: LocalPool) -> Observed:
    """Everything, fresh."""
    found: Observed = with_kube(cluster, observe)
    return found


def pool_now(cluster: LocalPool) -> Snapshot:
    """The pool as the cluster shows it: no reservations."""
    return snapshot_of(seen(cluster), POOL, strict=False)


def running(cluster: LocalPool, namespace: str, *names: str) -> bool:
    """Whether each VM's launcher pod is bound to a host."""
    snapshot = pool_now(cluster)
    return all((found := snapshot.vm(f"{namespace}/{name}")) is not None and found.host is not None for name in names)


def empty(cluster: LocalPool) -> bool:
    """Whether no VM runs in the pool or should."""
    snapshot = pool_now(cluster)
    return not any(v.should_run or v.host for v in snapshot.vms) and not any(h.used_bytes for h in snapshot.hosts)


def ledger(cluster: LocalPool) -> str:
    """The pool's ledger as stored."""
    found = cluster.api.get(f"/api/v1/namespaces/quorate-system/configmaps/quorate-ledger-{POOL}") or {}
    return str((found.get("data") or {}).get("ledger.json", ""))


def base(cluster: LocalPool, namespace: str) -> None:
    """Three protected VMs of 9 GiB: three hosts keep 6 GiB each, the fourth is the spare, one failure is covered."""
    said = apply(cluster, *(vm(namespace, f"base{i}", 9, protection="Protected") for i in (1, 2, 3)))
    assert said.count("created") == 3, said
    cluster.eventually(lambda: running(cluster, namespace, "base1", "base2", "base3"), "the protected VMs have their hosts")


def test_of_200_concurrent_starts_exactly_what_a_plan_covers_is_admitted(armed: LocalPool, place: str) -> None:
    count = 200
    base_said = apply(armed, vm(place, "base", 2, protection="Protected"))
    assert "created" in base_said, base_said
    names = [f"vm{i:03}" for i in range(count)]

    async def create(api: Kube) -> None:
        await asyncio.gather(*(api.create(kube.VMS, vm(place, name, 3, "Halted")) for name in names))

    async def start(api: Kube) -> list[str | None]:
        async def one(name: str) -> str | None:
            while True:
                try:
                    await api.merge(kube.VMS, name, {"spec": {"runStrategy": "Always"}}, place)
                except kube.Refused as error:
                    if "try again" not in str(error):  # a busy machine may not answer all within the budget
                        return str(error)
                else:
                    return None

        return list(await asyncio.gather(*(one(name) for name in names)))

    with_kube(armed, create)
    alone = apply(armed, vm(place, names[0], 3), server_dry_run=True)
    assert "dry run" in alone, alone
    answers: list[str | None] = with_kube(armed, start)
    admitted = [name for name, refusal in zip(names, answers, strict=True) if refusal is None]
    refused = [refusal for refusal in answers if refusal is not None]
    assert admitted, f"the first that fits was refused: {refused[:1]}"
    assert refused, "each is fine alone; all together are not"
    assert all("allow-overcommit" in refusal for refusal in refused), next(r for r in refused if "allow-overcommit" not in r)

    armed.eventually(lambda: running(armed, place, *admitted), "every admitted VM has its host", deadline_seconds=120)
    final = pool_now(armed)
    assert planner.holds(final, 1), planner.plan(final).witness
    assert all(host.used_bytes <= host.allocatable_bytes for host in final.hosts)
    left = next(v for v in final.vms if v.key == f"{place}/{names[answers.index(refused[0])]}")
    assert planner.start_hosts(final, left, 1) == (), "one more would have fitted: a false refusal"


def test_dry_run_answers_the_same_and_leaves_no_trace(armed: LocalPool, place: str) -> None:
    base(armed, place)
    armed.eventually(lambda: f"{place}/" not in ledger(armed), "the starts are out of the ledger", deadline_seconds=120)
    fits, breaks = vm(place, "fits", 1), vm(place, "breaks", 12)
    assert "created (server dry run)" in apply(armed, fits, server_dry_run=True)
    refused = apply(armed, breaks, server_dry_run=True)
    assert f"{place}/" not in ledger(armed)
    assert armed.kubectl("get", "vm", "-n", place, "-o", "name").count("virtualmachine") == 3
    assert "denied the request" in refused
    really = apply(armed, breaks)
    assert really.partition("denied the request")[2] == refused.partition("denied the request")[2]


def test_virtctl_start_is_refused_with_the_vm_the_host_the_numbers_and_the_way_round(armed: LocalPool, place: str) -> None:
    base(armed, place)
    apply(armed, vm(place, "halted", 12, "Halted"), vm(place, "manual", 12, "Manual"))
    for name in ("halted", "manual"):
        said = armed.virtctl("start", name, "-n", place, check=False)
        for part in (
            f"{place}/{name}",
            "covers 1 host failure now",
            "cover 0 host failures",
            "failed",
            "base",
            "quorate.dev/allow-overcommit=true",
        ):
            assert part in said, said
    armed.kubectl("annotate", "vm", "halted", "-n", place, "quorate.dev/allow-overcommit=true")
    armed.virtctl("start", "halted", "-n", place)
    armed.eventually(lambda: running(armed, place, "halted"), "the VM that was allowed anyway runs")


def test_a_started_vm_is_kept_on_the_host_where_its_memory_is_reserved(armed: LocalPool, place: str) -> None:
    base(armed, place)
    apply(armed, vm(place, "manual", 2, "Manual"))
    armed.virtctl("start", "manual", "-n", place)
    armed.eventually(lambda: running(armed, place, "manual"), "it runs")
    pods = json.loads(armed.kubectl("get", "pods", "-n", place, "-l", "vm.kubevirt.io/name=manual", "-o", "json"))["items"]
    assert pods[0]["metadata"]["annotations"]["quorate.dev/reserved-host"] == pods[0]["spec"]["nodeName"]
    assert planner.holds(pool_now(armed), 1)


def test_databases_that_never_share_a_host_start_on_hosts_of_their_own_while_one_is_left_for_a_restart(
    armed: LocalPool, place: str
) -> None:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"quorate.test/role": "db"}}}
    databases = [vm(place, f"db{i}", 1, protection="Protected") for i in range(HOSTS)]
    for database in databases:
        template = database["spec"]["template"]
        template["metadata"]["labels"]["quorate.test/role"] = "db"
        template["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    *three, fourth = databases
    assert apply(armed, *three).count("created") == len(three)
    armed.eventually(lambda: running(armed, place, "db0", "db1", "db2"), "three databases run")
    snapshot = pool_now(armed)
    assert [v.not_agile for v in snapshot.vms if v.apart] == [(), (), ()]
    assert len({v.host for v in snapshot.vms if v.apart}) == len(three)
    armed.eventually(lambda: planner.holds(pool_now(armed), 1), "the leader keeps zones for them")
    said = apply(armed, fourth)
    assert "would break" in said, said


def test_a_protected_vm_is_not_stopped_or_deleted_until_it_is_unprotected(armed: LocalPool, place: str) -> None:
    apply(armed, vm(place, "keep", 1))
    armed.eventually(lambda: running(armed, place, "keep"), "it runs")
    assert "created" in apply(armed, protected_vm(place, "keep"))
    for said in (
        armed.virtctl("stop", "keep", "-n", place, check=False),
        armed.kubectl("delete", "vm", "keep", "-n", place, "--wait=false", check=False),
        armed.kubectl("patch", "vm", "keep", "-n", place, "--type=merge", "-p", '{"spec":{"runStrategy":"Halted"}}', check=False),
    ):
        assert "unprotect it first" in said, said
    assert "restart" in armed.virtctl("restart", "keep", "-n", place)
    assert "configured" in apply(armed, protected_vm(place, "keep", "Unprotected"))
    armed.virtctl("stop", "keep", "-n", place)
    armed.kubectl("delete", "vm", "keep", "-n", place, "--wait=false")


def test_growth_maintenance_and_a_higher_wish_are_refused_when_they_break_the_plan(armed: LocalPool, place: str) -> None:
    base(armed, place)
    grown = {"spec": {"template": {"spec": {"domain": {"memory": {"guest": "30Gi"}}}}}}
    said = armed.kubectl("patch", "vm", "base1", "-n", place, "--type=merge", "-p", json.dumps(grown), check=False)
    assert "grows from" in said, said
    said = armed.kubectl("patch", "hapool", POOL, "--type=merge", "-p", '{"spec":{"hostFailuresToTolerate":2}}', check=False)
    assert "spec.hostFailuresToTolerate: 2 is above the maximum" in said, said
    assert "at most 1 host failure" in said, said
    host = next(h.host for h in pool_now(armed).vms if h.key == f"{place}/base1")
    said = armed.kubectl("patch", "hahost", str(host), "--type=merge", "-p", '{"spec":{"maintenance":true}}', check=False)
    assert f"Maintenance of HAHost {host} would break" in said, said


def test_a_vm_that_is_not_agile_is_not_protected_and_the_reason_is_told(armed: LocalPool, place: str) -> None:
    local = vm(place, "local", 1, "Halted")
    local["spec"]["template"]["spec"]["nodeSelector"] = {**LABEL, "kubernetes.io/hostname": f"{POOL}-1"}
    assert "created" in apply(armed, local)
    said = apply(armed, protected_vm(place, "local"))
    assert "cannot be protected" in said, said
    assert "BestEffort" in said, said
    assert "created" in apply(armed, protected_vm(place, "local", "BestEffort"))


def test_a_pool_with_policy_warn_admits_with_the_same_words_as_a_warning(armed: LocalPool, place: str) -> None:
    base(armed, place)
    armed.kubectl("patch", "hapool", POOL, "--type=merge", "-p", '{"spec":{"overcommitPolicy":"Warn"}}')
    breaks = vm(place, "breaks", 12)
    # With this flag kubectl fails on a warning, and then shows it.
    warned = armed.kubectl("create", "--warnings-as-errors", "--dry-run=server", "-f", "-", stdin=json.dumps(breaks), check=False)
    for part in ("overcommitPolicy Warn", "would break the failover plan", "created (server dry run)"):
        assert part in warned, warned
    assert "created" in apply(armed, breaks)


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (lambda ns: vm(ns, "negative", -4), "spec.template.spec.domain.memory.guest"),
        (lambda ns: vm(ns, "label", 1, "Halted", "Protekted"), "metadata.labels[quorate.dev/protection]"),
        (lambda ns: {**protected_vm(ns, "x"), "spec": {"vmRef": {"name": "x"}, "pool": "nowhere"}}, "spec.pool"),
    ],
    ids=["negative memory", "unknown protection", "no such pool"],
)
def test_a_wrong_field_is_refused_by_object_and_field(armed: LocalPool, place: str, obj: Any, field: str) -> None:
    said = apply(armed, obj(place))
    assert field in said, said
    assert f"{place}/" in said, said
    assert "Traceback" not in said


def test_a_node_that_another_pool_has_is_not_selected_twice(armed: LocalPool) -> None:
    spec = {"hostSelector": {"matchLabels": LABEL}, "heartbeat": {"storage": {"devicePath": str(armed.heartbeat_disk)}}}
    said = apply(armed, {"apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool", "metadata": {"name": "second"}, "spec": spec})
    assert "HAPool second: spec.hostSelector: Node" in said, said
