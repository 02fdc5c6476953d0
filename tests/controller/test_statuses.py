"""What objects say about themselves: phases and conditions by table, transition times kept, nothing written when nothing changed."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool, HAPoolStatus, PoolPhase, StorageHeartbeat
from quorate_api.protectedvm import ProtectedVM
from quorate_controller.observe import Observed
from quorate_controller.statuses import PoolView, Verdict, heartbeat_in_force, host_status, merge_patch, pool_phase, pool_status, vm_status
from quorate_controller.translate import snapshot_of
from quorate_core.facts import HostPhase
from quorate_planner import plan

from .objects import Json, claim, hahost, launcher, node, pool, protected_vm, vm, vmi, volume
from .scripted_api import merged

NOW = datetime(2030, 5, 1, 12, 0, tzinfo=UTC)


def view(
    hosts: list[Json] | None = None,
    *,
    pool_object: Json | None = None,
    recovering: bool = False,
    verdicts: dict[str, Verdict] | None = None,
    **objects: Any,
) -> PoolView:
    hosts = hosts if hosts is not None else [hahost("n1", slot=0), hahost("n2", slot=1)]
    pool_object = pool_object or pool(phase="Armed")
    nodes = tuple(node(h["metadata"]["name"]) for h in hosts)
    observed = Observed(hapools=(pool_object,), hahosts=tuple(hosts), nodes=nodes, **{k: tuple(v) for k, v in objects.items()})
    snapshot = snapshot_of(observed)
    models = [HAHost.model_validate(h) for h in hosts]
    judged = {h.metadata.name: Verdict(h.status.phase or HostPhase.JOINING) for h in models}
    return PoolView(
        HAPool.model_validate(pool_object), models, {**judged, **(verdicts or {})}, snapshot, plan(snapshot), recovering=recovering
    )


def conditions(status: Any) -> dict[str, tuple[str, str]]:
    return {c.type: (c.status, c.reason) for c in status.conditions}


JOINING = hahost("n2", phase="Joining", armed=False)


@pytest.mark.parametrize(
    ("found", "phase"),
    [
        (view(), PoolPhase.ARMED),
        (view([hahost("n1"), JOINING], pool_object=pool()), PoolPhase.ARMING),
        (view([hahost("n1"), JOINING], pool_object=pool(phase="Arming")), PoolPhase.ARMING),
        (view([hahost("n1"), JOINING]), PoolPhase.ARMED),
        (view([JOINING]), PoolPhase.ARMING),
        (view([]), PoolPhase.ARMING),
        (view([hahost("n1"), hahost("n2", phase="Fenced", armed=False)], pool_object=pool(phase="Arming")), PoolPhase.ARMED),
        (view(recovering=True), PoolPhase.RECOVERING),
        (view(pool_object=pool(enabled=False)), PoolPhase.DISARMING),
        (view([JOINING], pool_object=pool(enabled=False)), PoolPhase.DISABLED),
        (view(pool_object=pool(pausedUntil="2030-05-01T13:00:00Z")), PoolPhase.DISARMING),
        (view(pool_object=pool(pausedUntil="2030-05-01T11:00:00Z")), PoolPhase.ARMED),
    ],
)
def test_the_phase_of_a_pool(found: PoolView, phase: PoolPhase) -> None:
    assert pool_phase(found, NOW) is phase


def test_a_pool_that_protects_says_so_with_numbers() -> None:
    status = pool_status(view(vms=[vm("a")], vmis=[vmi("a", "n1")], pods=[launcher("a", "n1")], protectedvms=[protected_vm("a")]), NOW)
    assert (status.hosts, status.live_hosts, status.plan_exists_for, status.protected_vms, status.observed_generation) == (2, 2, 1, 1, 3)
    assert status.max_host_failures_to_tolerate is not None
    assert (status.max_host_failures_to_tolerate.lower, status.max_host_failures_to_tolerate.upper) == (1, 1)
    assert status.conditions[0].message == "1 protected VMs on 2 hosts; 1 host failures can be tolerated, 1 wished"
    assert conditions(status) == {
        "Ready": ("True", "Protecting"),
        "Armed": ("True", "Armed"),
        "PlanHolds": ("True", "PlanExists"),
        "Overcommitted": ("False", "WishMet"),
        "StorageHeartbeat": ("Unknown", "NoReports"),
        "NetworkHeartbeat": ("Unknown", "NoReports"),
    }


def disks(path: str, *more: str) -> Json:
    return {"storage": {"devicePath": path, "additionalDevicePaths": list(more)}}


@pytest.mark.parametrize(
    ("before", "wished", "generation"),
    [
        (None, disks("/dev/d1"), 1),
        ({**disks("/dev/d1"), "generation": 1}, disks("/dev/d1"), 1),
        ({**disks("/dev/d1"), "generation": 1}, {"storage": {"devicePath": "/dev/d1"}}, 1),
        ({**disks("/dev/d1"), "generation": 1}, disks("/dev/d2"), 2),
        ({**disks("/dev/d2"), "generation": 2}, disks("/dev/d1"), 3),
        ({**disks("/dev/d1"), "generation": 3}, disks("/dev/d1", "/dev/d2", "/dev/d3"), 4),
        ({**disks("/dev/d1", "/dev/d2", "/dev/d3"), "generation": 4}, disks("/dev/d1", "/dev/d3", "/dev/d2"), 5),
        ({"storage": {"claimName": "one"}, "generation": 5}, {"storage": {"claimName": "two"}}, 6),
        ({"storage": {"claimName": "two"}, "generation": 6}, {"storage": {"storageClassName": "two"}}, 7),
    ],
    ids=["first", "kept", "kept, unsaid", "changed", "and back", "more", "other order", "claim", "class"],
)
def test_other_heartbeat_disks_come_into_force_under_the_next_generation(before: Json | None, wished: Json, generation: int) -> None:
    taken = heartbeat_in_force(HAPool.model_validate({**pool(heartbeat=wished), "status": {"heartbeat": before} if before else {}}))
    assert taken.storage == StorageHeartbeat.model_validate(wished["storage"])
    assert taken.generation == generation


@pytest.mark.parametrize("wish", [{}, {"enabled": False}, {"pausedUntil": "2030-05-01T13:00:00Z"}])
def test_the_disks_are_taken_over_whatever_else_the_user_wishes(wish: Json) -> None:
    present = {**pool(heartbeat=disks("/dev/d2"), **wish), "status": {"phase": "Armed", "heartbeat": {**disks("/dev/d1"), "generation": 8}}}
    assert pool_status(view(pool_object=present), NOW).to_json()["heartbeat"] == {**disks("/dev/d2"), "generation": 9}


def test_an_overcommitted_pool_names_the_witness() -> None:
    big = {"vms": [vm("a", "30Gi"), vm("b", "30Gi")], "vmis": [vmi("a", "n1", guest="30Gi"), vmi("b", "n2", guest="30Gi")]}
    pods = [launcher("a", "n1", "30Gi"), launcher("b", "n2", "30Gi")]
    status = pool_status(view(pods=pods, protectedvms=[protected_vm("a"), protected_vm("b")], **big), NOW)
    assert (status.overcommitted, status.plan_exists_for) == (True, 0)
    assert conditions(status)["PlanHolds"] == ("False", "Overcommitted")
    assert conditions(status)["Overcommitted"] == ("True", "WishNotMet")
    assert status.witness is not None
    assert status.witness.unplaceable


def test_a_pool_with_a_contested_host_is_not_ready_and_says_who_claims_it() -> None:
    found = view()
    status = pool_status(
        PoolView(found.pool, found.hosts, found.verdicts, found.snapshot, found.plan, contested=["Node n1 is selected by pools a and b"]),
        NOW,
    )
    assert conditions(status)["Ready"] == ("False", "HostInTwoPools")
    assert "pools a and b" in status.conditions[0].message


def test_a_host_that_is_not_armed_is_named_with_what_it_is_missing() -> None:
    late = hahost("n2", phase="Joining", armed=False)
    late["status"]["agent"]["message"] = "no watchdog at /dev/watchdog"
    status = pool_status(view([hahost("n1"), late], pool_object=pool()), NOW)
    armed = next(c for c in status.conditions if c.type == "Armed")
    assert armed.message == "1 of 2 hosts armed; waiting for n2: no watchdog at /dev/watchdog"


def test_a_host_without_storage_shows_in_the_pools_condition() -> None:
    bad = hahost("n2")
    bad["status"]["agent"]["storage"] = {"ok": False, "sees": [], "message": "read took 9 s"}
    status = pool_status(view([hahost("n1"), bad]), NOW)
    assert conditions(status)["StorageHeartbeat"] == ("False", "HostsWithout")


def test_a_transition_time_stays_while_the_status_stays_and_nothing_is_written_twice() -> None:
    first = pool_status(view(), NOW)
    again = pool(phase="Armed")
    again["status"] = first.to_json()
    second = pool_status(view(pool_object=again), NOW + timedelta(hours=1))
    assert merge_patch(first.to_json(), second.to_json()) == {}
    third = pool_status(view(pool_object={**again, "spec": {**again["spec"], "enabled": False}}), NOW + timedelta(hours=2))
    times = {c.type: c.last_transition_time for c in third.conditions}
    assert times["Armed"] == NOW + timedelta(hours=2)
    assert times["PlanHolds"] == NOW


def test_the_failover_counter_is_left_to_the_failover() -> None:
    counted = pool(phase="Armed")
    counted["status"]["failoverGeneration"] = 4
    assert pool_status(view(pool_object=counted), NOW).failover_generation == 4


def test_a_host_shows_slot_address_memory_vms_and_keeps_its_agents_words() -> None:
    found = view(vms=[vm("a")], vmis=[vmi("a", "n1")], pods=[launcher("a", "n1")], protectedvms=[protected_vm("a")])
    status = host_status(found.hosts[0], found, 5, "10.0.0.7", NOW)
    assert (status.phase, status.slot, status.address) == (HostPhase.LIVE, 5, "10.0.0.7")
    assert status.vms is not None
    assert status.vms.protected == 1
    assert status.memory is not None
    assert status.memory.used_bytes == 1300 * 1024**2
    assert status.agent == found.hosts[0].status.agent


def test_a_host_without_a_slot_says_why() -> None:
    found = view()
    assert conditions(host_status(found.hosts[0], found, None, None, NOW))["Ready"] == ("False", "NoSlot")


PROTECTED = {"vms": [vm("a")], "vmis": [vmi("a", "n1")], "pods": [launcher("a", "n1")], "protectedvms": [protected_vm("a")]}
LOCAL_DISK = {"template": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]}}
NOT_AGILE = {**PROTECTED, "vms": [vm("a", **LOCAL_DISK)], "pvcs": [claim("c", "v")], "pvs": [volume("v", on=["n1"])]}


@pytest.mark.parametrize(
    ("objects", "pool_object", "phase", "reason"),
    [
        (PROTECTED, pool(phase="Armed"), "Protected", "Protected"),
        (PROTECTED, pool(enabled=False), "AtRisk", "PoolNotArmed"),
        (PROTECTED, pool(tolerate=2, phase="Armed"), "AtRisk", "NoPlan"),
        (NOT_AGILE, pool(phase="Armed"), "AtRisk", "NotAgile"),
        ({**PROTECTED, "protectedvms": [protected_vm("a", protection="BestEffort")]}, pool(phase="Armed"), "BestEffort", "BestEffort"),
        ({**PROTECTED, "protectedvms": [protected_vm("a", protection="Unprotected")]}, pool(phase="Armed"), "Unprotected", "Unprotected"),
        ({"vms": [vm("a", strategy="Halted")], "protectedvms": [protected_vm("a")]}, pool(phase="Armed"), "Stopped", "Stopped"),
    ],
)
def test_the_phase_of_a_protected_vm(objects: dict[str, list[Json]], pool_object: Json, phase: str, reason: str) -> None:
    found = view(pool_object=pool_object, **objects)
    status = vm_status(ProtectedVM.model_validate(objects["protectedvms"][0]), found, "", NOW)
    assert (status.phase, conditions(status)["Ready"][1]) == (phase, reason)


def test_a_protected_vm_names_its_planned_host_and_how_many_could_take_it() -> None:
    status = vm_status(ProtectedVM.model_validate(PROTECTED["protectedvms"][0]), view(**PROTECTED), "", NOW)
    assert (status.host, status.planned_host, status.candidate_hosts, status.memory_bytes) == ("n1", "n2", 1, 1300 * 1024**2)


def test_a_start_elsewhere_changes_no_other_vms_status() -> None:
    """Else every start in a pool of thousands would write thousands of statuses."""
    before = view(**PROTECTED)
    assert before.plan is not None
    for exists, lower in ((True, 1), (False, 0)):
        seen = [
            vm_status(
                ProtectedVM.model_validate(PROTECTED["protectedvms"][0]),
                replace(before, plan=replace(before.plan, lower=lower, upper=upper, protected_vms=vms, plan_exists=exists)),
                "",
                NOW,
            )
            for upper, vms in ((1, 1), (3, 2))
        ]
        assert seen[0] == seen[1]


def test_a_protected_vm_whose_vm_is_missing_says_so() -> None:
    status = vm_status(ProtectedVM.model_validate(protected_vm("gone")), view(), "spec.vmRef.name: there is no VirtualMachine ns/gone", NOW)
    assert status.phase == "Failed"
    assert status.conditions[0].message == "spec.vmRef.name: there is no VirtualMachine ns/gone"


def test_a_merge_patch_makes_one_status_into_the_other_and_removes_what_is_gone() -> None:
    before = {"a": 1, "b": {"c": 2, "d": 3}, "e": [1]}
    after = {"a": 1, "b": {"c": 2}, "e": [2], "f": {"g": 1}}
    patch = merge_patch(before, after)
    assert patch == {"b": {"d": None}, "e": [2], "f": {"g": 1}}
    assert merged(before, patch) == after


def test_a_status_without_a_plan_says_unknown() -> None:
    empty = PoolView(HAPool.model_validate(pool()), [], {}, problem="HAPool a: spec.x: wrong")
    status = pool_status(empty, NOW)
    assert isinstance(status, HAPoolStatus)
    assert conditions(status)["PlanHolds"] == ("Unknown", "NoPlan")
    assert conditions(status)["Ready"] == ("False", "BadInput")
