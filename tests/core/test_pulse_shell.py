"""Pulse's shell: a restart under a licence, and a second pulse."""

import multiprocessing
from pathlib import Path

import pytest

from quorate_agent import wire
from quorate_agent.pulse import __main__ as pulses
from quorate_agent.pulse.disk import Disk
from quorate_agent.voice import Voice
from quorate_core import slot
from quorate_core.heart import Keeper, KeeperSaid, Tick
from quorate_core.keeping import Mode
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL = bytes(range(1, 17))
BOOT = "00000000-0000-0000-0000-000000000001"


def config(disk: Path) -> wire.PulseConfig:
    members = (wire.MemberAddress("a", 0, ("127.0.0.1",)), wire.MemberAddress("b", 1, ("127.0.0.2",)))
    return wire.PulseConfig("p", POOL.hex(), True, "", 20, 8, "dog", (str(disk),), 16940, bytes(16), members)


def start(run: Path, disk: Path, monkeypatch: pytest.MonkeyPatch, orders: list[str]) -> pulses.Pulse:
    """A pulse that has just started, with its configuration read and its disk's orders noted instead of carried out."""
    monkeypatch.chdir(run)
    (run / wire.CONFIG_FILE).write_text(config(disk).to_json())
    monkeypatch.setattr(Disk, "order", lambda worker, _: orders.append(worker.path))
    made = pulses.Pulse("a", BOOT, Voice("test"))
    made._look_for_config()
    return made


def test_a_pulse_restarted_under_a_licence_stays_on_the_disk_on_which_that_licence_was_earned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool moves to a copy of its disk. The survivors, not restarted, see this host silent on the old one; it renews on the copy."""
    old, copy = tmp_path / "old", tmp_path / "copy"
    mine = Slot(POOL, bytes(16), Statement("a", 0, 5, 10, bytes(32), Phase.ARMED), STANDARD.values, True)
    data = slot.encode_header(POOL) + slot.encode(mine)
    for disk in (old, copy):
        disk.write_bytes(data)
    licensed = Keeper(Mode.LICENSED, 5, 1e12, "dog", "dog", 8.0)

    def cycle_on(disk: Path) -> str:
        orders: list[str] = []
        pulse = start(tmp_path, disk, monkeypatch, orders)
        pulse._step(KeeperSaid(100.0, licensed))
        pulse._step(Tick(100.1))
        return orders[-1]

    # In a process of its own, so that whatever it holds is free again when it has ended.
    before = multiprocessing.get_context("fork").Process(target=cycle_on, args=(old,))
    before.start()
    before.join(30)
    assert before.exitcode == 0
    assert cycle_on(copy) != str(copy)


def test_a_second_pulse_on_one_host_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two write one slot in turn; a survivor that always reads the other's incarnation certifies the one that is alive."""
    monkeypatch.chdir(tmp_path)
    first = pulses.Pulse("a", BOOT, Voice("first"))
    with pytest.raises((OSError, ValueError, wire.BadMessage)):
        pulses.Pulse("a", BOOT, Voice("second"))
    assert first is not None
