"""The failover workflow step by step: what is asked for, in which order, and what is waited for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.failover import step
from quorate_core.failover_facts import (
    Action,
    Attachment,
    DeadHost,
    DeleteAttachment,
    DeletePod,
    DiscardPod,
    Failover,
    Hold,
    LauncherPod,
    LiftGate,
    Observation,
    Restart,
    RestartStage,
    Say,
    Stage,
    Standing,
    StartVm,
    Taint,
    Untaint,
    VmState,
)

GIB = 2**30
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DEAD = DeadHost(Standing.DEAD)


def first_fit(snapshot: Snapshot, vms: Sequence[Vm], planned: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for vm in vms:
        fitting = [h.name for h in snapshot.hosts if vm.may_run_on(h.name) and h.free_bytes >= vm.size_bytes]
        found[vm.key] = min(fitting, key=lambda name: name != planned.get(vm.key), default=None)
    return found


def restart(vm: str, priority: int = 0, planned: str | None = "h2", **changes: object) -> Restart:
    made = Restart(f"ns/{vm}", uid=f"old-{vm}", pod=f"pod-{vm}", priority=priority, size_bytes=GIB, planned_host=planned)
    return replace(made, **changes)  # type: ignore[arg-type]


def failover(*restarts: Restart, **changes: object) -> Failover:
    made = Failover("h1-0", "p", "h1", "a" * 16, 1, NOW, boot_id="boot-1", restarts=restarts, stage=Stage.RESTARTING, hold=Hold.HELD)
    return replace(made, **changes)  # type: ignore[arg-type]


def survivors(*hosts: Host, vms: Sequence[Vm] = ()) -> Snapshot:
    return Snapshot(Pool("p"), hosts or (Host("h2", 8 * GIB), Host("h3", 8 * GIB)), tuple(vms))


def old(vm: str) -> LauncherPod:
    return LauncherPod(f"ns/{vm}", f"pod-{vm}", f"old-{vm}", host="h1")


def gated(vm: str) -> LauncherPod:
    return LauncherPod(f"ns/{vm}", f"new-{vm}", f"uid-{vm}", gated=True)


def bound(vm: str, host: str) -> LauncherPod:
    return LauncherPod(f"ns/{vm}", f"new-{vm}", f"uid-{vm}", host=host)


def see(f: Failover, *pods: LauncherPod, after: float = 0, host: DeadHost = DEAD, **changes: object) -> Observation:
    vms = {r.vm: VmState("Always", "Scheduling") for r in f.restarts}
    seen = Observation(NOW + timedelta(seconds=after), survivors(), {"h1": host}, pods, vms)
    return replace(seen, **changes)  # type: ignore[arg-type]


def one(f: Failover, seen: Observation) -> tuple[Failover, list[Action]]:
    (after,), actions = step((f,), seen, first_fit)
    return after, [a for a in actions if not isinstance(a, Say)]


def said(f: Failover, seen: Observation) -> list[str]:
    return [a.reason for a in step((f,), seen, first_fit)[1] if isinstance(a, Say)]


RELEASED = {"stage": RestartStage.RELEASED, "released_at": NOW}
RUNNING = {"stage": RestartStage.RUNNING, "running_at": NOW}


def test_nothing_is_freed_before_new_pods_would_be_held() -> None:
    f = failover(restart("a"), stage=Stage.PREPARING, hold=Hold.UNKNOWN)
    after, actions = one(f, see(f, old("a"), held=False, after=9))
    assert after.stage is Stage.PREPARING
    assert actions == []


def test_once_held_the_host_is_tainted_and_its_pods_are_deleted_in_restart_order_with_their_attachments() -> None:
    f = failover(
        restart("c", protection=Protection.UNPROTECTED),
        restart("b", 2),
        restart("d", protection=Protection.BEST_EFFORT),
        restart("a", 1),
        stage=Stage.PREPARING,
        hold=Hold.UNKNOWN,
    )
    disk = Attachment("va-a", "u", "h1", "ns/a")
    after, actions = one(f, see(f, old("c"), old("b"), old("a"), old("d"), held=True, attachments=(disk,)))
    assert (after.stage, after.hold) == (Stage.RELEASING, Hold.HELD)
    assert actions[0] == Taint("h1", evict=True)
    assert actions[1:3] == [DeletePod("ns/a", "pod-a", "old-a", "h1", True), DeleteAttachment("va-a", "u", "ns/a")]
    assert [a.vm for a in actions if isinstance(a, DeletePod)] == ["ns/a", "ns/b", "ns/d", "ns/c"]


def test_without_a_hold_old_pods_are_deleted_group_by_group() -> None:
    f = failover(restart("a", 1), restart("b", 2), stage=Stage.PREPARING, hold=Hold.UNKNOWN)
    f, actions = one(f, see(f, old("a"), old("b"), held=False, after=10))
    assert f.hold is Hold.ABSENT
    assert actions == [Taint("h1", evict=False), DeletePod("ns/a", "pod-a", "old-a", "h1", True)]
    tainted = replace(DEAD, tainted=True)
    vms = {"ns/a": VmState("Always", "Running", "h3"), "ns/b": VmState("Always", "Running", "h1")}
    f, actions = one(f, see(f, bound("a", "h3"), old("b"), after=20, host=tainted, vms=vms))
    assert actions == [DeletePod("ns/b", "pod-b", "old-b", "h1", True)]
    f, actions = one(f, see(f, bound("a", "h3"), after=21, host=tainted, vms=vms))
    assert actions == [Taint("h1", evict=True)]


@pytest.mark.parametrize("stage", [Stage.PREPARING, Stage.RELEASING, Stage.RESTARTING])
def test_doubt_about_the_death_frees_nothing(stage: Stage) -> None:
    f = failover(restart("a"), stage=stage)
    _, actions = one(f, see(f, old("a"), held=True, after=1000, host=DeadHost(Standing.DOUBT)))
    assert actions == []


def test_a_pod_of_the_old_life_is_left_to_the_kubelet_once_the_host_is_back() -> None:
    f = failover(restart("a"), stage=Stage.RELEASING)
    newcomer = LauncherPod("ns/x", "x", "x", host="h1")
    _, actions = one(f, see(f, old("a"), newcomer, host=DeadHost(Standing.RETURNED)))
    assert actions == [DeletePod("ns/a", "pod-a", "old-a", "h1", False)]


def test_a_migration_target_on_the_dead_host_is_deleted_and_the_pod_on_the_living_host_is_not() -> None:
    f = failover(restart("a", **RELEASED))
    target = LauncherPod("ns/m", "m-target", "m2", host="h1")
    source = LauncherPod("ns/m", "m-source", "m1", host="h2")
    _, actions = one(f, see(f, target, source, host=replace(DEAD, tainted=True, evicting=True)))
    assert actions == [DeletePod("ns/m", "m-target", "m2", "h1", True)]


def test_when_the_source_of_a_migration_dies_its_target_is_left_alone_and_no_other_copy_is_let_go_beside_it() -> None:
    f, dead = failover(restart("a", **RELEASED)), replace(DEAD, tainted=True, evicting=True)
    target = LauncherPod("ns/a", "a-target", "t1", host="h2")
    f, actions = one(f, see(f, old("a"), target, gated("a"), host=dead))
    assert actions == [DeletePod("ns/a", "pod-a", "old-a", "h1", True)]
    f, actions = one(f, see(f, target, gated("a"), after=5, host=dead))
    assert actions == []
    _, actions = one(f, see(f, replace(target, finished=True), gated("a"), after=10, host=dead))
    assert actions == [LiftGate("ns/a", "new-a", "uid-a", "h2")]


def test_held_pods_are_let_go_to_their_planned_hosts_priority_by_priority() -> None:
    f = failover(restart("a", 1, "h3", **RELEASED), restart("b", 1, "h2", **RELEASED), restart("c", 2, **RELEASED))
    dead = replace(DEAD, tainted=True, evicting=True)
    f, actions = one(f, see(f, gated("c"), gated("b"), gated("a"), host=dead))
    assert actions == [LiftGate("ns/a", "new-a", "uid-a", "h3"), LiftGate("ns/b", "new-b", "uid-b", "h2")]
    vms = {"ns/a": VmState("Always", "Running", "h3"), "ns/b": VmState("Always", "Scheduled", "h2"), "ns/c": VmState("Always", "Pending")}
    f, actions = one(f, see(f, gated("c"), bound("b", "h2"), bound("a", "h3"), after=5, host=dead, vms=vms))
    assert actions == []
    vms["ns/b"] = VmState("Always", "Running", "h2")
    f, actions = one(f, see(f, gated("c"), bound("b", "h2"), bound("a", "h3"), after=6, host=dead, vms=vms))
    assert actions == [LiftGate("ns/c", "new-c", "uid-c", "h2")]


def test_a_vm_is_not_let_go_while_its_old_pod_is_still_there() -> None:
    f = failover(restart("a", **RELEASED))
    _, actions = one(f, see(f, old("a"), gated("a"), host=replace(DEAD, tainted=True, evicting=True)))
    assert not any(isinstance(a, LiftGate) for a in actions)


def test_the_next_priority_does_not_wait_longer_than_a_minute() -> None:
    f = failover(
        restart("a", 1, due_at=NOW, stage=RestartStage.PLACED, host="h2", attempts=1, released_at=NOW), restart("b", 2, **RELEASED)
    )
    f, actions = one(f, see(f, bound("a", "h2"), gated("b"), after=59))
    assert LiftGate("ns/b", "new-b", "uid-b", "h2") not in actions
    f, actions = one(f, see(f, bound("a", "h2"), gated("b"), after=60))
    assert LiftGate("ns/b", "new-b", "uid-b", "h2") in actions


def test_the_start_delay_of_a_vm_holds_back_the_next_priority() -> None:
    f = failover(restart("a", 1, start_delay_seconds=30, **RUNNING), restart("b", 2, **RELEASED))
    assert not [a for a in one(f, see(f, gated("b"), after=29))[1] if isinstance(a, LiftGate)]
    assert [a.vm for a in one(f, see(f, gated("b"), after=30))[1] if isinstance(a, LiftGate)] == ["ns/b"]


def test_a_vm_whose_planned_host_is_gone_or_full_goes_where_the_rule_says() -> None:
    f = failover(restart("a", planned="h9", **RELEASED), restart("b", planned="h2", **RELEASED))
    snapshot = survivors(Host("h2", 8 * GIB, 8 * GIB), Host("h3", 8 * GIB))
    _, actions = one(f, see(f, gated("a"), gated("b"), snapshot=snapshot))
    assert [a.host for a in actions if isinstance(a, LiftGate)] == ["h3", "h3"]


def test_when_memory_is_short_the_highest_priority_takes_it_and_the_rest_waits_visibly_and_is_told_once() -> None:
    f = failover(restart("big", 1, size_bytes=3 * GIB, **RELEASED), restart("small", 2, size_bytes=2 * GIB, **RELEASED))
    snapshot = survivors(Host("h2", 4 * GIB))
    f, actions = one(f, see(f, gated("small"), gated("big"), snapshot=snapshot))
    assert [a.vm for a in actions if isinstance(a, LiftGate)] == ["ns/big"]
    vms = {"ns/big": VmState("Always", "Running", "h2"), "ns/small": VmState("Always", "Scheduling")}
    full = survivors(Host("h2", 4 * GIB, 3 * GIB))
    seen = see(f, gated("small"), bound("big", "h2"), after=5, snapshot=full, vms=vms)
    assert said(f, seen).count("VMRestartBlocked") == 1
    f, _ = one(f, seen)
    small = f.restarts[1]
    assert small.stage is RestartStage.BLOCKED
    assert "no host has 2.00 GiB free" in small.reason
    assert "1.00 GiB" in small.reason
    again = see(f, gated("small"), bound("big", "h2"), after=6, snapshot=full, vms=vms)
    assert said(f, again) == []
    assert one(f, again)[0].stage is Stage.RESTARTING
    more = survivors(Host("h2", 4 * GIB, 3 * GIB), Host("h4", 4 * GIB))
    f, actions = one(f, see(f, gated("small"), bound("big", "h2"), after=7, snapshot=more, vms=vms))
    assert LiftGate("ns/small", "new-small", "uid-small", "h4") in actions


def test_a_live_host_that_is_not_ready_for_a_moment_is_waited_for_in_order_but_not_longer_than_a_minute() -> None:
    f = failover(restart("a", 1, **RELEASED), restart("b", 2, **RELEASED))
    closed = survivors(Host("h2", 8 * GIB, accepts_vms=False, why_not="not Ready"), Host("h3", 0))
    f, actions = one(f, see(f, gated("a"), gated("b"), snapshot=closed))
    assert f.restarts[0].stage is RestartStage.RELEASED
    assert "h2 takes VMs again (not Ready)" in f.restarts[0].reason
    f, actions = one(f, see(f, gated("a"), gated("b"), snapshot=closed, after=59))
    assert not any(isinstance(a, LiftGate) for a in actions)
    f, actions = one(f, see(f, gated("a"), gated("b"), after=59.5))
    assert [(a.vm, a.host) for a in actions if isinstance(a, LiftGate)] == [("ns/a", "h2")]


def test_a_host_that_takes_no_vms_for_a_minute_blocks_the_restart() -> None:
    f = failover(restart("a", 1, due_at=NOW, **RELEASED))
    closed = survivors(Host("h2", 8 * GIB, accepts_vms=False, why_not="not Ready"))
    f, _ = one(f, see(f, gated("a"), snapshot=closed, after=60))
    assert f.restarts[0].stage is RestartStage.BLOCKED


def test_two_vms_are_not_sent_to_the_same_free_memory_in_one_step_or_the_next() -> None:
    f = failover(restart("a", size_bytes=3 * GIB, **RELEASED), restart("b", size_bytes=3 * GIB, **RELEASED))
    snapshot = survivors(Host("h2", 4 * GIB))
    f, actions = one(f, see(f, gated("a"), gated("b"), snapshot=snapshot))
    assert [a.vm for a in actions if isinstance(a, LiftGate)] == ["ns/a"]
    unbound = LauncherPod("ns/a", "new-a", "uid-a")
    f, actions = one(f, see(f, unbound, gated("b"), after=1, snapshot=snapshot))
    assert not any(isinstance(a, LiftGate) for a in actions)


def test_a_pod_that_the_scheduler_refuses_is_replaced_after_a_growing_delay_and_never_by_force() -> None:
    f = failover(restart("a", stage=RestartStage.PLACED, host="h2", attempts=1, released_at=NOW, due_at=NOW))
    stuck = LauncherPod("ns/a", "new-a", "uid-a", unschedulable="0/3 nodes are available")
    assert said(f, see(f, stuck, after=1)) == ["VMRestartBlocked"]
    f, actions = one(f, see(f, stuck, after=1))
    assert f.restarts[0].stage is RestartStage.BLOCKED
    assert not any(isinstance(a, DiscardPod) for a in actions)
    f, actions = one(f, see(f, stuck, after=10.5))
    assert not any(isinstance(a, DiscardPod) for a in actions)
    f, actions = one(f, see(f, stuck, after=11))
    assert DiscardPod("ns/a", "new-a", "uid-a") in actions
    f, actions = one(f, see(f, stuck, after=12))
    assert not any(isinstance(a, DiscardPod) for a in actions)


def test_a_vm_that_the_scheduler_refuses_on_one_host_is_sent_to_the_others_in_turn() -> None:
    f = failover(restart("a", **RELEASED))
    snapshot = survivors(Host("h2", 8 * GIB), Host("h3", 8 * GIB), Host("h4", 8 * GIB), Host("full", GIB // 2))
    stuck = LauncherPod("ns/a", "new-a", "uid-a", unschedulable="0/4 nodes are available: 1 Insufficient cpu")
    tried: list[str | None] = []
    for seconds in range(0, 4000, 1000):
        f, actions = one(f, see(f, gated("a"), after=seconds, snapshot=snapshot))
        tried += [a.host for a in actions if isinstance(a, LiftGate)]
        f, _ = one(f, see(f, stuck, after=seconds + 1, snapshot=snapshot))
        f, actions = one(f, see(f, stuck, after=seconds + 900, snapshot=snapshot))
        assert DiscardPod("ns/a", "new-a", "uid-a") in actions
    assert set(tried) == {"h2", "h3", "h4"}
    assert tried[0] == "h2", "first where the rule says"


def test_a_manual_vm_is_started_once_its_instance_has_ended_and_not_before() -> None:
    f = failover(restart("a", **RELEASED))
    for phase, asked, expected in [
        ("Running", False, []),
        ("Failed", False, [StartVm("ns/a")]),
        (None, True, []),
        (None, False, [StartVm("ns/a")]),
    ]:
        vms = {"ns/a": VmState("Manual", phase, "h1", asked)}
        _, actions = one(f, see(f, host=replace(DEAD, tainted=True, evicting=True), vms=vms))
        assert actions == expected, (phase, asked)


def test_a_vm_that_kubevirt_recreates_by_itself_is_not_started() -> None:
    f = failover(restart("a", **RELEASED))
    vms = {"ns/a": VmState("Always", None)}
    assert not any(isinstance(a, StartVm) for a in one(f, see(f, after=50, vms=vms))[1])


@pytest.mark.parametrize(("vm", "why"), [(None, "gone"), (VmState("Halted"), "Halted"), (VmState("Once"), "Once")])
def test_a_vm_that_nobody_wants_any_more_is_skipped_but_its_old_pod_is_still_deleted(vm: VmState | None, why: str) -> None:
    f = failover(restart("a"), stage=Stage.RELEASING)
    f, actions = one(f, see(f, old("a"), vms={"ns/a": vm} if vm else {}))
    assert f.restarts[0].stage is RestartStage.SKIPPED
    assert why in f.restarts[0].reason
    assert DeletePod("ns/a", "pod-a", "old-a", "h1", True) in actions


def test_best_effort_follows_all_protected_and_is_tried_once() -> None:
    f = failover(restart("a", **RELEASED), restart("b", protection=Protection.BEST_EFFORT, planned=None, **RELEASED))
    f, actions = one(f, see(f, gated("a"), gated("b")))
    assert [a.vm for a in actions if isinstance(a, LiftGate)] == ["ns/a"]
    vms = {"ns/a": VmState("Always", "Running", "h2"), "ns/b": VmState("Always", "Scheduling")}
    full = survivors(Host("h2", GIB, GIB))
    f, actions = one(f, see(f, bound("a", "h2"), gated("b"), vms=vms, snapshot=full, after=1))
    assert f.restarts[1].stage is RestartStage.BLOCKED
    assert f.stage is Stage.COMPLETED


def test_other_held_pods_are_let_go_last_and_even_while_a_protected_vm_is_blocked() -> None:
    f = failover(restart("a", size_bytes=99 * GIB, **RELEASED), restart("u", protection=Protection.UNPROTECTED, planned=None, **RELEASED))
    other = gated("other")
    f, actions = one(f, see(f, gated("a"), gated("u"), other))
    assert f.restarts[0].stage is RestartStage.BLOCKED
    f, actions = one(f, see(f, gated("a"), gated("u"), other, after=1))
    lifted = [a for a in actions if isinstance(a, LiftGate)]
    assert {(a.vm, a.host) for a in lifted} == {("ns/u", None), ("ns/other", None)}
    assert f.stage is Stage.RESTARTING


def test_people_can_end_the_wait_for_a_blocked_vm_by_unprotecting_it() -> None:
    f = failover(restart("a", size_bytes=99 * GIB, stage=RestartStage.BLOCKED, attempts=1, released_at=NOW, due_at=NOW))
    snapshot = survivors(vms=[Vm("ns/a", 99 * GIB, protection=Protection.UNPROTECTED)])
    f, actions = one(f, see(f, gated("a"), snapshot=snapshot))
    assert LiftGate("ns/a", "new-a", "uid-a", None) in actions
    assert f.stage is Stage.COMPLETED


def test_two_hosts_that_fail_together_share_one_order_and_one_memory() -> None:
    low = failover(restart("a", 2, **RELEASED))
    high = replace(failover(restart("b", 1, planned="h1", **RELEASED)), name="h4-0", host="h4", generation=2)
    snapshot = survivors(Host("h1", 9 * GIB), Host("h2", 8 * GIB), Host("h4", 9 * GIB))
    seen = replace(see(low, gated("a"), gated("b"), snapshot=snapshot), hosts={"h1": DEAD, "h4": DEAD})
    seen = replace(seen, vms={"ns/a": VmState("Always"), "ns/b": VmState("Always")})
    _, actions = step((low, high), seen, first_fit)
    assert [a for a in actions if isinstance(a, LiftGate)] == [LiftGate("ns/b", "new-b", "uid-b", "h2")]


def test_a_vm_whose_new_host_fails_too_is_restarted_by_the_newer_failover_only() -> None:
    first = failover(restart("a", stage=RestartStage.PLACED, host="h2", attempts=1, released_at=NOW, due_at=NOW))
    again = Restart("ns/a", "uid-a", "new-a", size_bytes=GIB, planned_host="h3")
    second = replace(failover(again), name="h2-0", host="h2", generation=2, stage=Stage.RELEASING)
    seen = replace(see(first, bound("a", "h2")), hosts={"h1": DEAD, "h2": DEAD})
    (first, second), actions = step((first, second), seen, first_fit)
    assert first.restarts[0].stage is RestartStage.SKIPPED
    assert second.restarts[0].stage is RestartStage.RELEASED
    assert [a for a in actions if isinstance(a, DeletePod)] == [DeletePod("ns/a", "new-a", "uid-a", "h2", True)]


BACK = DeadHost(Standing.RETURNED, node_ready=True, node_boot_id="boot-2", agent_joined=True, tainted=True, evicting=True)


@pytest.mark.parametrize(
    "missing",
    [{"node_ready": False}, {"agent_joined": False}, {"node_boot_id": "boot-1"}, {"standing": Standing.DOUBT}, {"standing": Standing.DEAD}],
)
def test_the_taint_stays_until_every_proof_of_the_return_is_there(missing: dict[str, object]) -> None:
    f = failover(restart("a", **RUNNING), stage=Stage.COMPLETED, completed_at=NOW)
    assert one(f, see(f, host=replace(BACK, **missing)))[1] == []  # type: ignore[arg-type]


def test_the_taint_stays_while_an_old_pod_is_there() -> None:
    f = failover(restart("a", stage=RestartStage.RELEASED, released_at=NOW))
    assert Untaint("h1") not in one(f, see(f, old("a"), host=BACK))[1]


def test_a_host_that_provably_rebooted_and_joined_serves_again() -> None:
    f = failover(restart("a", **RUNNING), stage=Stage.COMPLETED, completed_at=NOW)
    after, actions = one(f, see(f, host=BACK))
    assert actions == [Untaint("h1")]
    assert after.host_returned_at is None
    after, actions = one(f, see(f, host=replace(BACK, tainted=False, evicting=False)))
    assert actions == []
    assert after.finished
