"""Host failures on a real API server with KubeVirt and real agents: what restarts, where, in which order, and what does not."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from quorate_core.facts import Protection
from quorate_local.pool import LocalPool
from tests.cluster.armed import CONTROLLERS, ArmedPool, Wish, armed_pool

BOUND_SECONDS = 23.0
"""R_s of the pool below; the tests wait at least so long where nothing may happen."""
VMS = {
    "db": Wish(Protection.PROTECTED, 0),
    "db-manual": Wish(Protection.PROTECTED, 0, "Manual"),
    "app": Wish(Protection.PROTECTED, 1),
    "app-rerun": Wish(Protection.PROTECTED, 1, "RerunOnFailure"),
    "web": Wish(Protection.PROTECTED, 2),
    "batch": Wish(Protection.BEST_EFFORT),
    "other": Wish(Protection.UNPROTECTED),
}


@pytest.fixture(scope="module")
def failing(cluster: LocalPool) -> Iterator[ArmedPool]:
    """Three real hosts in an armed pool."""
    with armed_pool(cluster, "failing", VMS, hosts=3) as pool:
        yield pool


def survivors_stayed_ready(pool: ArmedPool, dead: str, since: datetime) -> bool:
    """Whether no other Node of the pool was called NotReady since; on a starved machine their leases may be late."""
    ready = (pool.condition(host, "Ready") for host in pool.hosts if host != dead)
    return all(c.get("status") == "True" and datetime.fromisoformat(c["lastTransitionTime"]) < since for c in ready)


def test_a_node_that_the_api_server_calls_not_ready_but_whose_heartbeats_are_fine_is_left_alone(failing: ArmedPool) -> None:
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


def test_a_host_that_dies_is_certified_and_its_vms_restart_in_order_where_the_plan_said(failing: ArmedPool) -> None:
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
    found = failing.progress(failover)
    assert set(found) == here
    assert {name: found[name]["phase"] for name in here} == dict.fromkeys(here, "Running") | {"other": found["other"]["phase"]}
    protected = [name for name in here if name in failing.protected]
    if survivors_stayed_ready(failing, victim.name, died_at):  # else the plan itself changed before the death was certified
        assert {r["vm"].removeprefix(f"{failing.name}/"): r.get("plannedHost") for r in failover["spec"]["restarts"]}.items() >= {
            name: planned[name] for name in protected
        }.items()
        assert {name: found[name]["host"] for name in protected} == {name: planned[name] for name in protected}
    held = next(c for c in failover["status"]["conditions"] if c["type"] == "RestartsHeld")
    assert held["status"] == "True", held
    failing.check_order(failover)
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
    pods = failing.items("pods", "-n", failing.name)
    assert [p["metadata"]["name"] for p in pods if p["spec"].get("schedulingGates")] == []


def test_a_host_without_heartbeats_but_with_a_healthy_api_connection_is_fenced_certified_and_restarted(failing: ArmedPool) -> None:
    failing.await_steady()
    victim = failing.busiest()
    here = {name for name, host in failing.where().items() if host == victim.name}
    life = failing.incarnation(victim.name)
    failing.local.rack.reboot_after_seconds = None
    victim.pause("pulse")
    failing.local.eventually(lambda: not victim.is_on(), f"the watchdog resets {victim.name}", deadline_seconds=60)
    failing.check_order(failing.await_completed(victim.name, life))
    failing.local.eventually(lambda: here <= set(failing.where()), "every VM runs again", deadline_seconds=90)
    assert victim.name not in failing.where().values()
    failing.check_disks()
    victim.power_on()
    failing.await_steady()


def test_a_controller_killed_in_the_middle_of_a_failover_loses_and_doubles_nothing(failing: ArmedPool) -> None:
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
    assert set(failing.progress(failover)) == here
    failing.local.eventually(lambda: set(failing.where()) == set(VMS), "every VM runs again", deadline_seconds=90)
    failing.check_disks()
    assert len([f for f in failing.items("failovers") if f["spec"]["incarnation"] == life]) == 1
    victim.power_on()
    failing.await_steady()
