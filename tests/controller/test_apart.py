"""Required pod anti-affinity, case by case: what becomes a label that the planner keeps apart, and what makes a VM not agile, and why."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from quorate_controller.observe import Observed
from quorate_controller.translate import snapshot_of
from quorate_core.facts import Snapshot, Vm
from quorate_planner import best_layout, holds, problem_of, restart_targets

from .objects import Json, hahost, launcher, node, pool, protected_vm, vm, vmi

NODES = [node(name) for name in ("n1", "n2", "n3", "n4")]
DB = "ns: app=db"


def rule(labels: Json | None = None, *, selector: Json | None = None, **term: Any) -> Json:
    """A required term, over hosts unless it says otherwise."""
    chosen = selector if selector is not None else {"matchLabels": labels or {"app": "db"}}
    return {"topologyKey": "kubernetes.io/hostname", "labelSelector": chosen, **term}


def db(name: str, *terms: Json, labels: Json | None = None) -> Json:
    """A VM with these template labels (app=db if none are given) and these required terms."""
    made = vm(
        name, template={"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [*terms]}}} if terms else {}
    )
    made["spec"]["template"]["metadata"] = {"labels": labels or {"app": "db"}}
    return made


def plain_pod(name: str, labels: Json, *terms: Json, namespace: str = "ns", host: str = "n3", phase: str = "Running") -> Json:
    affinity = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [*terms]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"pod-{name}", "labels": labels},
        "spec": {"nodeName": host, "containers": [], **({"affinity": affinity} if terms else {})},
        "status": {"phase": phase},
    }


def pod_of(machine: Json, host: str | None, *terms: Json) -> Json:
    """The launcher pod that KubeVirt makes of a VM."""
    name, template = machine["metadata"]["name"], machine["spec"]["template"]
    made = launcher(name, host, **{key: template["spec"][key] for key in ("affinity",) if key in template["spec"]})
    made["metadata"]["labels"] |= {**template["metadata"]["labels"], "kubevirt.io/created-by": f"vmi-{name}", "vm.kubevirt.io/name": name}
    if terms:
        made["spec"]["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [*terms]}}
    return made


def seen(
    vms: Sequence[Json], pods: Sequence[Json] | None = None, *, protected: Sequence[str] | None = None, nodes: Any = NODES
) -> Snapshot:
    """The pool with these VMs on n1, n2 and so on."""
    hosts = dict(zip((machine["metadata"]["name"] for machine in vms), ("n1", "n2", "n3", "n4"), strict=False))
    names = hosts if protected is None else protected
    launched = [pod_of(machine, hosts[machine["metadata"]["name"]]) for machine in vms]
    return snapshot_of(
        Observed(
            hapools=(pool(),),
            nodes=tuple(nodes),
            hahosts=tuple(hahost(n["metadata"]["name"]) for n in nodes),
            vms=tuple(vms),
            vmis=tuple(vmi(name, host) for name, host in hosts.items()),
            pods=(*launched, *(pods or ())),
            protectedvms=tuple(protected_vm(name) for name in names),
        )
    )


def of(snapshot: Snapshot, name: str) -> Vm:
    return snapshot.vm(f"ns/{name}") or pytest.fail(f"no {name}")


def test_two_databases_that_never_share_a_host_stay_agile_and_are_kept_apart_by_the_planner() -> None:
    snapshot = seen([db("a", rule()), db("b", rule()), db("web", labels={"app": "web"})])
    assert [(v.apart, v.not_agile) for v in snapshot.vms] == [({DB}, ()), ({DB}, ()), (frozenset(), ())]
    problem = problem_of(snapshot)
    assert [v.apart for v in problem.vms] == [{DB}, {DB}, frozenset()]
    assert best_layout(problem, ()) is not None


@pytest.mark.parametrize(
    "selector",
    [
        {"matchLabels": {"app": "db"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]},
    ],
)
def test_the_same_selector_written_otherwise_is_the_same_rule(selector: Json) -> None:
    assert of(seen([db("a", rule()), db("b", rule(selector=selector))]), "b").apart == {DB}


@pytest.mark.parametrize(
    ("term", "why"),
    [
        (rule(topologyKey="topology.kubernetes.io/zone"), "it spreads over topology.kubernetes.io/zone"),
        (rule(namespaces=["ns", "other"]), "it looks into other namespaces"),
        (rule(namespaceSelector={}), "it looks into other namespaces"),
        (rule(matchLabelKeys=["version"]), "matchLabelKeys are not planned for"),
        (rule(selector={"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}), "its selector leaves labels out"),
        (rule({"app": "cache"}), "its selector (ns: app=cache) does not select the VM itself"),
    ],
)
def test_a_rule_that_is_not_planned_for_makes_the_vm_not_agile_and_says_why(term: Json, why: str) -> None:
    snapshot = seen([db("a", term), db("other", labels={"app": "x"})])
    found = of(snapshot, "a")
    assert found.not_agile[0].startswith(f"required podAntiAffinity: {why}")
    assert problem_of(snapshot).vms[0].allowed == {"n1"}
    assert not found.apart


def test_a_term_without_a_selector_selects_nothing_and_is_no_rule() -> None:
    assert of(seen([db("a", {"topologyKey": "kubernetes.io/hostname"}), db("b")]), "a").not_agile == ()


def test_a_rule_of_one_side_only_binds_both_sides_because_the_scheduler_heeds_it_for_both() -> None:
    snapshot = seen([db("a", rule()), db("b")])
    assert of(snapshot, "a").not_agile == (
        "required podAntiAffinity: its selector (ns: app=db) also selects VirtualMachine ns/b, which has no such rule",
    )
    assert of(snapshot, "b").not_agile == ("required podAntiAffinity of VirtualMachine ns/a keeps it away, and it has no such rule itself",)


def test_a_pod_that_is_no_vm_but_has_the_label_makes_the_vms_not_agile_until_it_is_gone() -> None:
    databases = [db("a", rule()), db("b", rule())]
    beside = plain_pod("backup", {"app": "db"})
    assert "also selects pod ns/backup" in of(seen(databases, [beside]), "b").not_agile[0]
    for harmless in (
        plain_pod("backup", {"app": "db"}, phase="Succeeded"),
        plain_pod("backup", {"app": "db"}, namespace="other"),
        plain_pod("backup", {"app": "other"}),
    ):
        assert of(seen(databases, [harmless]), "b").not_agile == ()


@pytest.mark.parametrize(("namespace", "more"), [("ns", {}), ("other", {"namespaces": ["ns"]}), ("other", {"namespaceSelector": {}})])
def test_a_rule_of_a_pod_elsewhere_that_selects_a_vm_makes_it_not_agile(namespace: str, more: Json) -> None:
    keeper = plain_pod("alone", {}, rule({"app": "web"}, **more), namespace=namespace)
    snapshot = seen([db("a"), db("web", labels={"app": "web"})], [keeper])
    assert of(snapshot, "a").not_agile == ()
    assert of(snapshot, "web").not_agile == (
        f"required podAntiAffinity of pod {namespace}/alone keeps it away, and it has no such rule itself",
    )


def test_what_kubevirt_puts_on_the_target_of_a_migration_concerns_nobody_else() -> None:
    moved = rule({"kubevirt.io/created-by": "vmi-a"})
    databases = [db("a", rule()), db("b", rule())]
    target = pod_of(databases[0], "n3", rule(), moved)
    target["metadata"]["name"] += "-target"
    snapshot = seen(databases, [target])
    assert [v.not_agile for v in snapshot.vms] == [(), ()]


def test_a_pod_that_still_has_its_vms_former_rule_counts_as_it_is() -> None:
    edited = [db("a", rule()), db("b", rule())]
    former = pod_of(edited[0], "n1", rule({"app": "db"}), rule({"tier": "gold"}))
    gold = db("c", labels={"tier": "gold"})
    snapshot = seen([*edited, gold], [former])
    assert "of pod ns/virt-launcher-a-x keeps it away" in of(snapshot, "c").not_agile[0]
    assert of(snapshot, "b").not_agile == ()


def test_nodes_without_a_hostname_of_their_own_make_such_rules_unplannable() -> None:
    twins = [*NODES[:3], node("n4", labels={"kubernetes.io/hostname": "n3"})]
    assert "do not each have a label kubernetes.io/hostname" in of(seen([db("a", rule()), db("b", rule())], nodes=twins), "a").not_agile[0]


def test_an_unprotected_vm_of_the_same_rule_closes_its_host_to_the_protected_ones() -> None:
    snapshot = seen([db("a", rule()), db("b", rule()), db("c", rule())], protected=["a", "b"])
    assert of(snapshot, "c").apart == {DB}
    assert [(v.name, v.allowed) for v in problem_of(snapshot).vms] == [
        ("ns/a", {"n1", "n2", "n4"}),
        ("ns/b", {"n1", "n2", "n4"}),
    ]


def test_nothing_is_promised_beside_a_pod_with_the_label_but_a_restart_is_tried_where_that_pod_is_not() -> None:
    snapshot = seen([db("a", rule()), db("b", rule())], [plain_pod("backup", {"app": "db"}, host="n3")])
    assert [host.apart for host in snapshot.hosts] == [frozenset(), frozenset(), {DB}, frozenset()]
    assert not holds(replace(snapshot, layout=best_layout(problem_of(snapshot), ())), 1)
    survivors = tuple(host for host in snapshot.hosts if host.name != "n1")
    lost = replace(of(snapshot, "a"), host=None)
    after = replace(snapshot, hosts=survivors, vms=(lost, of(snapshot, "b")))
    assert restart_targets(after, [lost], {"ns/a": "n3"}) == {"ns/a": "n4"}
    assert restart_targets(replace(after, hosts=survivors[:2]), [lost]) == {"ns/a": None}


def test_a_vm_that_is_tied_to_its_host_by_more_than_rules_is_not_tried() -> None:
    tied = db("a", rule())
    tied["spec"]["template"]["spec"]["volumes"] = [{"name": "d", "hostDisk": {"path": "/d"}}]
    snapshot = seen([tied, db("b")])
    lost = replace(of(snapshot, "a"), host=None)
    assert len(lost.not_agile) == 2
    after = replace(snapshot, hosts=snapshot.hosts[1:], vms=(lost, of(snapshot, "b")))
    assert restart_targets(after, [lost]) == {"ns/a": None}


def test_a_label_value_that_is_no_text_is_read_as_text() -> None:
    odd = db("a", rule({"app": 5}), labels={"app": 5})  # type: ignore[dict-item]
    assert of(seen([odd]), "a").apart == {"ns: app=5"}
