"""Processes of real hosts that are stopped or killed, while the rest of the pool watches. One host alone is tested in test_one_host.py.

Rows are those of the design's test matrix. Every scenario also watches the promise: no certificate for a host whose VM still runs.
"""

import json
import signal
import sys
import time

from quorate_agent import clock, wire
from tests.agent import apiserver, reporting
from tests.agent.machines import TIMING
from tests.agent.namespaces import Host, Pool
from tests.agent.staging import scenario

R_S = TIMING.values.release_after_silence_seconds

STOPS_BEFORE_IT_PETS = """
import os, signal, sys
from quorate_agent.keeper import watchdog
from quorate_agent.keeper.__main__ import main
pet = watchdog.DevelopmentWatchdog.pet
def late(self):
    if os.path.exists("stop-before-the-pet"):
        os.kill(os.getpid(), signal.SIGSTOP)
    pet(self)
watchdog.DevelopmentWatchdog.pet = late
sys.exit(main())
"""
"""A keeper that stops itself, once asked to, after it has checked its deadline and before it pings."""


def all_are_reset_and_certified(pool: Pool, victims: list[Host], since: float) -> None:
    rest = [host for host in pool.hosts if host not in victims]
    pool.until("all of them are reset", lambda: not any(host.on for host in victims))
    resets = ", ".join(f"{host.name} {(host.off_since or 0.0) - since:.1f} s" for host in victims)
    pool.until("the rest certifies them", lambda: all(pool.certified(host, by=rest) for host in victims))
    assert pool.alive() == [host.number for host in rest]
    pool.figures.append(f"reset after {resets}; all certified after {time.monotonic() - since:.1f} s; R_s = {R_S:g} s")


@scenario()
def test_whatever_process_stands_still_or_is_killed_for_long_its_host_is_reset_before_it_is_certified(pool: Pool) -> None:
    """Rows 2, 3 and 5: pulse stopped; keeper stopped; both killed just before the watchdog would bite, so that the last close pings."""
    pool.arm()
    _, mute, petless, killed = pool.hosts
    since = time.monotonic()
    mute.signal("pulse", signal.SIGSTOP)
    petless.signal("keeper", signal.SIGSTOP)
    killed.signal("keeper", signal.SIGSTOP)
    last_pet = killed.dog.petted_at[-1]
    time.sleep(max(0.0, last_pet + 0.8 * TIMING.watchdog_seconds - time.monotonic()))
    killed.signal("keeper", signal.SIGKILL)
    killed.signal("pulse", signal.SIGKILL)
    all_are_reset_and_certified(pool, [mute, petless, killed], since)
    assert (killed.off_since or 0.0) - last_pet > 1.7 * TIMING.watchdog_seconds, "the close did not ping: nothing was shown"


@scenario()
def test_processes_that_stand_still_or_are_killed_for_a_moment_change_nothing(pool: Pool) -> None:
    """Rows 1 and 6."""
    pool.arm()
    before = [host.state()["incarnation"] for host in pool.hosts]
    first, second, third, fourth = pool.hosts
    first.signal("pulse", signal.SIGSTOP)
    second.signal("keeper", signal.SIGSTOP)
    third.signal("pulse", signal.SIGKILL)
    fourth.signal("keeper", signal.SIGKILL)
    third.start("pulse")
    fourth.start("keeper")
    time.sleep(TIMING.watchdog_seconds / 4)
    second.signal("keeper", signal.SIGCONT)
    time.sleep(TIMING.restart_budget_seconds / 2)
    first.signal("pulse", signal.SIGCONT)
    pool.until("all are armed", lambda: pool.alive() == [0, 1, 2, 3])
    pool.during(2 * TIMING.licence_seconds, lambda: all(host.on for host in pool.hosts), "nobody is reset")
    assert [host.state()["incarnation"] for host in pool.hosts] == before
    assert pool.alive() == [0, 1, 2, 3]
    assert not pool.certificates


@scenario(hosts=3)
def test_a_report_that_stands_still_or_is_killed_harms_nobody_and_tells_the_certificate_when_it_is_back(pool: Pool) -> None:
    """Both are away for R_s, several licences: neither pulse nor keeper needs report or the API."""
    pool.arm()
    stopped, killed, victim = pool.hosts
    told = [reporting.start(pool, host) for host in (stopped, killed)]
    pool.until("both say that their host is armed", lambda: all(apiserver.told(api).get("armed") for api in told))
    before = [host.state()["incarnation"] for host in (stopped, killed)]
    stopped.signal("report", signal.SIGSTOP)
    killed.signal("report", signal.SIGKILL)
    since = pool.power_off(victim)
    pool.until("both certify it", lambda: pool.certified(victim, by=[stopped, killed]))
    assert pool.alive() == [0, 1]
    assert [host.state()["incarnation"] for host in (stopped, killed)] == before
    assert not any(apiserver.told(api)["certificates"] for api in told), "nothing was shown: report was not away"
    stopped.signal("report", signal.SIGCONT)
    reporting.start(pool, killed)
    pool.until("both tell the certificate", lambda: all(apiserver.told(api)["certificates"] for api in told))
    assert {apiserver.told(api)["certificates"][0]["host"] for api in told} == {victim.name}
    assert pool.alive() == [0, 1]
    pool.figures.append(f"certificate told to the API {time.monotonic() - since:.1f} s after the power cut; R_s = {R_S:g} s")


@scenario(hosts=3)
def test_a_keeper_that_stops_between_check_and_pet_pets_once_too_late_and_its_host_is_still_reset_before_it_is_certified(
    pool: Pool,
) -> None:
    """Rows 4 and 7: the other host's pulse is killed again and again."""
    victim, looping, _ = pool.hosts
    victim.start("keeper")
    victim.signal("keeper", signal.SIGKILL)
    victim._run("keeper", [sys.executable, "-c", STOPS_BEFORE_IT_PETS, *victim.arguments("keeper")])
    victim.start("pulse")
    for host in pool.hosts[1:]:
        host.start()
    pool.until("all arm", lambda: pool.alive() == [0, 1, 2])
    since = time.monotonic()
    victim.signal("pulse", signal.SIGSTOP)
    looping.signal("pulse", signal.SIGKILL)
    deadline = float(json.loads((victim.folder / wire.MARKER_FILE).read_text())["deadline"])
    offset = clock.now() - time.monotonic()

    def crash_loop(until: float) -> None:
        while time.monotonic() < until and looping.on:
            looping.start("pulse")
            time.sleep(0.1)
            if looping.on:
                looping.signal("pulse", signal.SIGKILL)

    pet, trigger = TIMING.pet_interval_seconds, victim.folder / "stop-before-the-pet"
    crash_loop(deadline - offset - 4 * pet)
    time.sleep(deadline - offset - 1.6 * pet - time.monotonic())
    trigger.touch()  # the pet that comes within P stops at its door, with a licence that is good for another 0.6 P: it may be late by that
    time.sleep(1.6 * pet)
    time.sleep(victim.dog.petted_at[-1] + TIMING.watchdog_seconds - 0.75 * pet - time.monotonic())
    trigger.unlink()
    victim.signal("keeper", signal.SIGCONT)
    pool.until("the host is reset", lambda: not victim.on)
    late = [at for at in victim.dog.petted_at if at > deadline - offset]
    assert len(late) == 1, "one pet had passed its check; none after it does"
    crash_loop(since + 2 * TIMING.licence_seconds)
    all_are_reset_and_certified(pool, [victim, looping], since)
