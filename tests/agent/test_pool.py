"""Real hosts on one real file and loopback addresses: they arm together, and the dead are certified, neither too early nor never."""

import signal
import time
from typing import Any

from quorate_core.timing import Timing
from tests.agent.everywhere import says_everywhere

R_S = Timing(6, 2).values.release_after_silence_seconds


def all_armed(pool: Any) -> bool:
    return all(machine.state().get("armed") for machine in pool.machines)


def certificates(machine: Any, host: str) -> list[Any]:
    return [c for c in machine.state().get("certificates", []) if c["host"] == host]


def test_three_hosts_arm_and_a_killed_one_is_certified_after_r_s_and_joins_again_as_a_new_incarnation(rig: Any, until: Any) -> None:
    """Row 38 with real processes: the host comes back at once and waits for its own certificate."""
    pool = rig(3)
    first, victim, third = pool.machines
    first.start()
    third.start()
    until("two of three say whom they wait for", lambda: "h1 is not seen" in str(first.state().get("message")))
    assert not first.state()["armed"], "nobody arms before everybody is there"
    victim.start()
    until("all arm", lambda: all_armed(pool))
    former = victim.state()["incarnation"]
    bit_before_death = pool.slot(1)
    assert bit_before_death is not None
    assert bit_before_death.watchdog_armed

    victim.kill()
    died = time.monotonic()
    victim.reborn()
    victim.start()

    for machine in (first, third):
        until("a survivor certifies it", lambda m=machine: bool(certificates(m, "h1")), 60)  # type: ignore[misc]
        (certificate,) = certificates(machine, "h1")
        assert certificate["incarnation"] == former
        assert certificate["silentSeconds"] >= certificate["boundSeconds"] == R_S
    # One interval before its death its last write may have been seen; never earlier than R_s after that.
    assert time.monotonic() - died >= R_S - 1.5
    assert not victim.state().get("armed")
    until("it joins again", lambda: all_armed(pool), 60)
    assert victim.state()["incarnation"] != former
    assert all(machine.dog.bitten_at is None for machine in (first, third))


def test_a_host_whose_pulse_stands_still_is_reset_before_it_is_certified(rig: Any, until: Any) -> None:
    """Rows 2 and 5."""
    pool = rig(2)
    survivor, victim = pool.machines
    survivor.start()
    victim.start()
    until("both arm", lambda: all_armed(pool))
    victim.signal("pulse", signal.SIGSTOP)
    certified = until("it is certified", lambda: bool(certificates(survivor, "h1")), 60)
    assert victim.dog.bitten_at is not None
    assert certified > victim.dog.bitten_at
    assert survivor.state()["armed"]


def test_hosts_with_other_timing_do_not_arm_and_say_so(rig: Any) -> None:
    """Row 42."""
    pool = rig(2)
    pool.configure(only=("h1",), licence_seconds=12, watchdog_seconds=5)
    for machine in pool.machines:
        machine.start()
    says_everywhere(pool.machines[0], "h1 has another pool configuration (its licence is 12 s, here it is 6 s)")
    says_everywhere(pool.machines[1], "h0 has another pool configuration (its licence is 6 s, here it is 12 s)")


def test_a_new_member_does_not_disarm_those_that_run_and_joins_them(rig: Any, until: Any) -> None:
    pool = rig(3)
    members = pool.members
    pool.configure(members=members[:2])
    for machine in pool.machines[:2]:
        machine.start()
    until("two arm", lambda: all(m.state().get("armed") for m in pool.machines[:2]))
    pool.configure(members=members)
    pool.machines[2].start()
    until("the third joins", lambda: bool(pool.machines[2].state().get("armed")))
    assert all_armed(pool)
    assert all(machine.log("pulse").count("h0: armed") <= 1 for machine in pool.machines)


def test_a_second_machine_with_the_same_slot_does_not_write_it(rig: Any, until: Any) -> None:
    """Rows 36 and 37: a clone."""
    pool = rig(1)
    (machine,) = pool.machines
    machine.start()
    until("it arms", lambda: all_armed(pool))
    clone = pool._machine("clone")
    clone.name = "h0"
    (clone.folder / "config.json").write_text(
        (machine.folder / "config.json").read_text().replace(str(machine.dog.path), str(clone.dog.path))
    )
    clone.start()
    try:
        says_everywhere(clone, "its slot is being written by incarnation", "of h0, which was armed; two machines may share one slot")
        assert machine.state()["armed"]
        assert machine.dog.bitten_at is None
    finally:
        clone.dog.close()
        clone.kill()
