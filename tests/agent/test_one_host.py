"""One real host: what its keeper and pulse do when they are paused, killed, or told to stop. L = 6 s, W = 2 s."""

import json
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from quorate_agent import clock, wire
from tests.agent.everywhere import says_everywhere
from tests.agent.machines import TIMING


def armed(machine: Any) -> Callable[[], bool]:
    return lambda: bool(machine.state().get("armed"))


@pytest.fixture
def alone(rig: Any, until: Any) -> Any:
    """A pool of one host, armed."""
    pool = rig(1)
    machine = pool.machines[0]
    machine.start()
    until("the host arms", armed(machine))
    return machine


def test_a_paused_pulse_ends_in_a_reset_and_not_before_the_licence_has_ended(alone: Any, until: Any) -> None:
    """Row 2."""
    alone.signal("pulse", signal.SIGSTOP)
    paused = time.monotonic()
    bitten = until("the watchdog bites", lambda: alone.dog.bitten_at is not None)
    # The last evidence may be up to one interval and one short cycle old; after it the licence of 6 s and the watchdog of 2 s run.
    assert bitten - paused > 6 - 1 - 2
    assert "licence" in alone.log("keeper")


def test_a_paused_keeper_ends_in_a_reset(alone: Any, until: Any) -> None:
    """Row 3."""
    alone.signal("keeper", signal.SIGSTOP)
    until("the watchdog bites", lambda: alone.dog.bitten_at is not None)


def test_a_pulse_paused_for_less_than_its_budget_changes_nothing(alone: Any, until: Any) -> None:
    """Row 1."""
    before = alone.state()["incarnation"]
    alone.signal("pulse", signal.SIGSTOP)
    time.sleep(1.5)
    alone.signal("pulse", signal.SIGCONT)
    pets = alone.dog.pets
    until("it is petted on", lambda: alone.dog.pets > pets + 8)
    assert alone.dog.bitten_at is None
    assert alone.state()["incarnation"] == before


def test_a_keeper_is_never_disarmed_by_sigterm(alone: Any, until: Any) -> None:
    """Row 9."""
    alone.signal("keeper", signal.SIGTERM)
    until("it says so", lambda: "SIGTERM ignored" in alone.log("keeper"))
    pets = alone.dog.pets
    until("it still pets", lambda: alone.dog.pets > pets + 2)
    assert alone.processes["keeper"].poll() is None
    assert armed(alone)()


def test_a_killed_pulse_that_comes_back_in_time_goes_on_as_the_same_incarnation(alone: Any, until: Any) -> None:
    """Row 6."""
    before = alone.state()["incarnation"]
    alone.signal("pulse", signal.SIGKILL)
    alone.start("pulse")
    until("it is armed again", armed(alone))
    assert alone.state()["incarnation"] == before
    pets = alone.dog.pets
    until("its licence is renewed for long enough", lambda: alone.dog.pets > pets + 20)
    assert alone.dog.bitten_at is None


def test_a_killed_keeper_that_comes_back_in_time_pets_under_the_same_licence(alone: Any, until: Any) -> None:
    """Row 6, for the keeper: the marker carries its deadline over."""
    alone.signal("keeper", signal.SIGKILL)
    alone.start("keeper")
    pets = alone.dog.pets
    until("it pets again", lambda: alone.dog.pets > pets + 20)
    assert alone.dog.bitten_at is None
    assert armed(alone)()


def test_a_keeper_that_comes_back_after_its_deadline_does_not_open_the_watchdog(alone: Any, until: Any) -> None:
    """Row 8: pulse stands still, the keeper is killed; a keeper that finds the deadline passed must let the reset come."""
    marker = alone.folder / wire.MARKER_FILE
    alone.signal("pulse", signal.SIGKILL)
    alone.signal("keeper", signal.SIGKILL)
    fields = json.loads(marker.read_text())
    marker.write_text(json.dumps({**fields, "deadline": clock.now() - 0.1}))
    pets = alone.dog.pets
    alone.start("keeper")
    until("it says why", lambda: "will reset this host" in alone.log("keeper"))
    until("the watchdog bites", lambda: alone.dog.bitten_at is not None)
    assert alone.dog.pets <= pets, "the watchdog was pinged again"


def test_a_host_without_a_watchdog_refuses_to_arm_and_says_why(rig: Any, until: Any) -> None:
    """Row 43."""
    pool = rig(1)
    pool.configure(watchdog_device="/dev/no-such-watchdog")
    machine = pool.machines[0]
    machine.start()
    until("it refuses", lambda: machine.state().get("state") == "Refused")
    says_everywhere(machine, "no usable watchdog: /dev/no-such-watchdog: No such file or directory")


def test_a_watchdog_that_somebody_else_holds_is_never_shared(rig: Any, until: Any) -> None:
    """Row 44."""
    import socket

    pool = rig(1)
    machine = pool.machines[0]
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.connect(str(machine.dog.path))
        machine.start()
        until("it refuses", lambda: machine.state().get("state") == "Refused")
        says_everywhere(machine, "no usable watchdog: development watchdog", "is held by another program; it is never shared")


def test_a_host_whose_watchdog_has_failed_disarms_says_so_and_arms_again_when_it_can_be_opened(alone: Any, until: Any) -> None:
    alone.dog.fail()
    until("it is disarmed and refuses", lambda: alone.state().get("state") == "Refused")
    assert not alone.state()["armed"]
    assert alone.state()["message"].startswith("no usable watchdog: development")
    assert "has not reset this host" in alone.log("keeper")
    time.sleep(2 * TIMING.licence_seconds)
    assert alone.dog.bitten_at is None, "no licence is left that could end"
    alone.dog.mend()
    until("it arms again", armed(alone))
    assert alone.dog.bitten_at is None


def test_a_disk_of_another_pool_is_refused_by_name_and_never_written(rig: Any, until: Any) -> None:
    """Row 39 at start."""
    from quorate_core import slot

    pool = rig(1)
    machine = pool.machines[0]
    foreign = slot.encode_header(bytes(15) + b"x") + bytes(slot.BLOCK_BYTES * 64)
    pool.disk.write_bytes(foreign)
    machine.start()
    until("it refuses", lambda: machine.state().get("state") == "Refused")
    says_everywhere(machine, "the heartbeat disk belongs to pool 00000000000000000000000000000078, not to this pool")
    time.sleep(2)
    assert pool.disk.read_bytes() == foreign


def test_a_disk_with_somebody_elses_data_is_not_overwritten(rig: Any, until: Any) -> None:
    pool = rig(1)
    pool.disk.write_bytes(b"a file system, say".ljust(300_000, b"."))
    before = pool.disk.read_bytes()
    machine = pool.machines[0]
    machine.start()
    until("it refuses", lambda: machine.state().get("state") == "Refused")
    says_everywhere(machine, "not written by Quorate; it is not overwritten")
    assert pool.disk.read_bytes() == before


def test_a_disarmed_host_says_so_on_disk_before_it_lives_without_a_licence(alone: Any, rig: Any, until: Any) -> None:
    """The user pauses the pool: the watchdog cannot be stopped, so it is petted on, and a dead pulse no longer matters."""
    config = wire.PulseConfig.from_json((alone.folder / wire.CONFIG_FILE).read_text())
    from dataclasses import replace

    (alone.folder / wire.CONFIG_FILE).write_text(replace(config, enabled=False, disabled_reason="paused by the user").to_json())
    until("it is released", lambda: "is released from its licence" in alone.log("keeper"))
    until("it reports that, as it does every second", lambda: alone.state()["state"] == "Disarmed")
    assert alone.state()["message"] == "paused by the user"
    alone.signal("pulse", signal.SIGKILL)
    pets = alone.dog.pets
    until("it is petted beyond its licence", lambda: alone.dog.pets > pets + 20)
    assert alone.dog.bitten_at is None


def test_a_config_that_cannot_be_used_is_named_and_the_old_one_stays(alone: Any, until: Any) -> None:
    (alone.folder / wire.CONFIG_FILE).write_text('{"version": 1, "members": [{"host": "h0"}]}')
    until("it says which field", lambda: "config.json: members[0].address" in alone.log("pulse"))
    assert armed(alone)()
