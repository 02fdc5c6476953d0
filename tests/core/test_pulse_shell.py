"""Pulse's shell: a restart under a licence, a second pulse, the count of VMs, packets that are dropped."""

import errno
import json
import multiprocessing
import signal
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import wire
from quorate_agent.clock import now
from quorate_agent.pulse import __main__ as pulses
from quorate_agent.pulse import describe, links, remembered, stopper
from quorate_agent.pulse.disk import Disk
from quorate_agent.pulse.network import Received
from quorate_agent.voice import Voice
from quorate_core import packet, slot
from quorate_core.heart import CycleDone, GiveDeadline, Keeper, KeeperSaid, StopVms, Tick
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL = bytes(range(1, 17))
BOOT = "00000000-0000-0000-0000-000000000001"


LICENSED = Keeper(Mode.LICENSED, 5, 1e12, "dog", "dog", 8.0)


def config(disk: Path, own_slot: int = 0) -> wire.PulseConfig:
    members = (wire.MemberAddress("a", own_slot, ("127.0.0.1",)), wire.MemberAddress("b", 1, ("127.0.0.2",)))
    return wire.PulseConfig("p", POOL.hex(), True, "", 20, 8, "dog", (str(disk),), 16940, bytes(16), members)


def start(run: Path, wanted: wire.PulseConfig, monkeypatch: pytest.MonkeyPatch, orders: list[str]) -> pulses.Pulse:
    """A pulse that has just started, with its configuration read and its disk's orders noted instead of carried out."""
    monkeypatch.chdir(run)
    (run / wire.CONFIG_FILE).write_text(wanted.to_json())
    monkeypatch.setattr(Disk, "order", lambda worker, _: orders.append(worker.path))
    made = pulses.Pulse("a", BOOT, Voice("test"))
    made._look_for_config()
    return made


def licensed(run: Path, wanted: wire.PulseConfig, monkeypatch: pytest.MonkeyPatch) -> tuple[pulses.Pulse, str]:
    """One that finds a licence, reads, and renews it; and the disk that it asked last."""
    orders: list[str] = []
    pulse = start(run, wanted, monkeypatch, orders)
    pulse._step(KeeperSaid(100.0, LICENSED))
    pulse._step(Tick(100.1))
    pulse._act(GiveDeadline(5, 1e12), 100.2, "")
    return pulse, orders[-1]


def renew(run: Path, wanted: wire.PulseConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in a process of its own, so that whatever it holds is free again when it has ended."""
    before = multiprocessing.get_context("fork").Process(target=licensed, args=(run, wanted, monkeypatch))
    before.start()
    before.join(30)
    assert before.exitcode == 0


def test_a_pulse_restarted_under_a_licence_stays_on_the_disk_on_which_that_licence_was_earned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool moves to a copy of its disk. The survivors, not restarted, see this host silent on the old one; it renews on the copy."""
    old, copy = tmp_path / "old", tmp_path / "copy"
    renew(tmp_path, config(old), monkeypatch)
    _, disk = licensed(tmp_path, config(copy), monkeypatch)
    assert disk == str(old)


def test_a_pulse_restarted_under_a_licence_keeps_the_time_that_its_disks_are_the_pools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool went to other disks and back: the others know this life by the digest of the first time."""
    first = replace(config(tmp_path / "disk"), disks_generation=1)
    renew(tmp_path, first, monkeypatch)
    pulse, _ = licensed(tmp_path, replace(first, disks_generation=3), monkeypatch)
    assert pulse._heart.config is not None
    assert pulse._heart.config.disks_digest == first.core().disks_digest
    pulse._heart, pulse._may_resume = replace(pulse._heart, resuming=False, claimed=True), False
    pulse._look_for_config()
    assert pulse._heart.config.disks_digest == first.core().disks_digest, "also when it has heard of the third"
    assert pulse._remember()
    kept = remembered.load(BOOT)
    assert kept is not None
    assert (kept.disks, kept.disks_generation) == (first.disks, 1)


def test_a_licence_after_the_one_that_kept_the_old_disks_belongs_to_those_that_waited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine takes over by itself what had to wait for the end of the licence; no new configuration is read for it."""
    first = replace(config(tmp_path / "disk"), disks_generation=1)
    second = replace(config(tmp_path / "other"), disks_generation=2)
    pulse, _ = licensed(tmp_path, first, monkeypatch)
    pulse._heart, pulse._may_resume = replace(pulse._heart, resuming=False, claimed=True), False
    pulse._take_over(second)
    assert pulse._remember()
    assert remembered.load(BOOT) == first
    pulse._heart = replace(pulse._heart, deadline=None)
    pulse._step(Tick(now()))
    assert pulse._remember()
    assert remembered.load(BOOT) == second


def test_no_licence_is_asked_for_on_disks_that_the_next_pulse_would_take_for_those_of_another_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    first = replace(config(tmp_path / "disk"), disks_generation=1)
    pulse = start(tmp_path, first, monkeypatch, [])
    assert pulse._remember()
    monkeypatch.setattr(remembered, "save", full)
    for generation, may in ((1, True), (3, False)):
        pulse._take_over(replace(first, disks_generation=generation, enabled=False))
        assert pulse._remember() is may


@pytest.mark.parametrize("change", ["gone", "moved"])
def test_a_pulse_restarted_under_a_licence_goes_on_in_the_slot_that_the_licence_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """Its entry has left the configuration, or has another slot there: without its slot it would be reset. Then it keeps the old one."""
    before = config(tmp_path / "disk")
    renew(tmp_path, before, monkeypatch)
    after = replace(before, members=before.members[1:]) if change == "gone" else config(tmp_path / "disk", own_slot=5)
    pulse, _ = licensed(tmp_path, after, monkeypatch)
    assert pulse._heart.resuming
    mine = Slot(POOL, bytes(16), Statement("a", 0, 5, 10, bytes(32), Phase.ARMED), STANDARD.values, True)
    blocks = {0: slot.encode(mine), 1: bytes(slot.BLOCK_BYTES)}
    read = Cycle(pulse._heart.cycles, 100.1, 100.2, 100.3, None, slot.encode_header(POOL), blocks)
    pulse._step(CycleDone(100.4, read))
    for _ in range(2):
        pulse._look_for_config()
        assert pulse._config == before, "its packets too stay those of the member that the others know"
    assert pulse._heart.member is not None
    assert (pulse._heart.member.slot, pulse._heart.phase) == (0, Phase.ARMED)
    assert pulse._remember()
    assert remembered.load(BOOT) == before, "also for the pulse that comes next"


def test_under_a_licence_the_packets_stay_in_the_pool_that_the_licence_belongs_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool was made again: who does not hear of it would hear nobody who has, and be evicted."""
    before = config(tmp_path / "disk")
    pulse, _ = licensed(tmp_path, before, monkeypatch)
    pulse._heart, pulse._may_resume = replace(pulse._heart, resuming=False, claimed=True), False
    again = replace(before, pool_id="ff" * 16, key=bytes([7]) * 16)
    (tmp_path / wire.CONFIG_FILE).write_text(again.to_json())
    pulse._look_for_config()
    assert pulse._config == before
    pulse._heart = replace(pulse._heart, deadline=None)
    pulse._look_for_config()
    assert pulse._config == again


@pytest.mark.parametrize(("mode", "goes_on"), [(Mode.LICENSED, False), (Mode.EXPIRED, False), (Mode.OPEN, True), (Mode.CLOSED, True)])
def test_what_a_licence_belonged_to_matters_only_while_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: Mode, goes_on: bool
) -> None:
    """Another version of the agent wrote it. Under a licence no other configuration may take its place."""
    (tmp_path / wire.LICENCE_FILE).write_text('{"version": 999}')
    pulse = start(tmp_path, config(tmp_path / "disk"), monkeypatch, [])
    assert pulse._config is None, "the keeper has not spoken yet"
    pulse._step(KeeperSaid(now(), replace(LICENSED, mode=mode)))
    pulse._look_for_config()
    assert (pulse._config is not None) is goes_on
    assert (wire.LICENCE_FILE in pulse._complaints.get("licence", "")) is not goes_on


def test_the_watchdog_that_a_new_configuration_names_is_the_one_that_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for in the very step that takes the configuration over; the device that it names may be gone by the next."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(links.KeeperLink, "tell", lambda _, message: told.append(json.loads(message)))
    before = config(tmp_path / "disk")
    pulse = start(tmp_path, before, monkeypatch, [])
    pulse._step(KeeperSaid(100.0, Keeper(Mode.CLOSED)))
    pulse._heart = replace(pulse._heart, claimed=True, disk_problem="")
    (tmp_path / "new").write_text(replace(before, watchdog_device="another").to_json())
    (tmp_path / "new").replace(tmp_path / wire.CONFIG_FILE)
    pulse._look_for_config()
    assert [said["device"] for said in told if said["kind"] == "open"] == ["another"]


def test_a_second_pulse_on_one_host_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two write one slot in turn; a survivor that always reads the other's incarnation certifies the one that is alive."""
    monkeypatch.chdir(tmp_path)
    first = pulses.Pulse("a", BOOT, Voice("first"))
    with pytest.raises((OSError, ValueError, wire.BadMessage)):
        pulses.Pulse("a", BOOT, Voice("second"))
    assert first is not None


class Answers:
    """A stopper that gives these answers, one after the other."""

    def __init__(self, *answers: int | str) -> None:
        self.answers = list(answers)

    def stop(self) -> int:
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise stopper.Doubt(answer)
        return answer


def test_vms_are_counted_without_waiting_and_a_doubt_is_said_once_and_is_no_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Row 57: what cannot be told is never `none left`."""
    monkeypatch.chdir(tmp_path)
    pulse = pulses.Pulse("a", BOOT, Voice("test"), Answers(3, "who knows", "who knows", 0))
    pulse._heart = replace(pulse._heart, phase=Phase.FENCING)
    left = []
    for _ in range(4):
        pulse._act(StopVms(), now(), "")
        worker, deadline = pulse._stopper, time.monotonic() + 10
        assert worker is not None
        while worker._waiting:
            assert time.monotonic() < deadline, "the stopper does not answer"
            pulse._take_in()
        left.append(pulse._heart.vms_left)
    assert left == [3, 3, 3, 0]
    assert capfd.readouterr().err.count("the VMs of this host cannot be counted: who knows") == 1


@pytest.mark.parametrize(
    ("pool_id", "key", "words"),
    [
        (POOL, b"another key 1234", "packets from 127.0.0.2 (b) are dropped: signature (another key?)"),
        (bytes(range(2, 18)), bytes(16), "packets from 127.0.0.2 (b) are dropped: another pool (do two pools share one port?)"),
    ],
    ids=["another key", "another pool"],
)
def test_packets_with_another_key_or_of_another_pool_are_dropped_counted_and_named_in_the_arming_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool_id: bytes, key: bytes, words: str
) -> None:
    pulse = start(tmp_path, config(tmp_path / "disk"), monkeypatch, [])
    data = packet.encode(Statement("b", 1, 9, 1, bytes(32), Phase.JOINING), pool_id, key)
    pulse._hear(Received(data, 0, "127.0.0.2"))
    assert sum(pulse._dropped.counts.values()) == 1
    said = describe.state(pulse._heart, now(), pulse._troubles(now()), {}, BOOT)
    assert words in said["message"]
    assert words in said["network"]["message"]


def test_a_second_path_brings_copies_that_count_for_the_path_and_for_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = start(tmp_path, config(tmp_path / "disk"), monkeypatch, [])
    red_blue = (wire.MemberAddress("a", 0, ("127.0.0.1", "127.0.1.1")), wire.MemberAddress("b", 1, ("127.0.0.2", "127.0.1.2")))
    (tmp_path / "new").write_text(replace(config(tmp_path / "disk"), members=red_blue, interfaces=("red", "blue")).to_json())
    (tmp_path / "new").replace(tmp_path / wire.CONFIG_FILE)
    pulse._look_for_config()
    data = packet.encode(Statement("b", 1, 9, 1, bytes(32), Phase.JOINING), POOL, bytes(16))
    for path in (0, 1):
        pulse._hear(Received(data, path, f"127.0.{path}.2"))
    assert dict(pulse._dropped.counts) == {packet.Drop.DUPLICATE: 1}
    assert set(pulse._network.sources()[1].heard_at) == {"b"}
    pulse._hear(Received(data, 0, "127.0.0.2"))
    assert pulse._troubles(now()).dropped == ()


def message_of(pulse: pulses.Pulse) -> str:
    """What the HAHost says of this host."""
    said = describe.state(pulse._heart, now(), pulse._troubles(now()), {}, BOOT)["message"]
    assert isinstance(said, str)
    return said


def test_a_configuration_that_could_not_be_read_once_is_taken_over_at_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(wire.CONFIG_FILE).write_text(config(tmp_path / "disk").to_json())
    pulse = pulses.Pulse("a", BOOT, Voice("test"))

    def fail(_: Path) -> bytes:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        pulse._look_for_config()
        pulse._look_for_config()
    assert "the configuration is not taken over: [Errno 24] Too many open files" in message_of(pulse)
    assert capfd.readouterr().err.count("not taken over") == 1
    pulse._look_for_config()
    assert pulse._config == config(tmp_path / "disk")
    assert "not taken over" not in message_of(pulse)


def test_a_configuration_that_is_refused_is_said_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = start(tmp_path, config(tmp_path / "disk"), monkeypatch, [])
    before = pulse._config
    Path(wire.CONFIG_FILE).write_text(replace(config(tmp_path / "disk"), port=0).to_json())
    pulse._look_for_config()
    assert pulse._config == before
    assert "the configuration is not taken over: config.json: port: 0 is not within 1..65535" in message_of(pulse)


def test_a_keeper_of_another_version_is_said_on_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pulse = start(tmp_path, config(tmp_path / "disk"), monkeypatch, [])
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(wire.KEEPER_SOCKET)
        listener.listen(1)
        pulse._keeper.connect(now())
        keeper, _ = listener.accept()
        with keeper:
            keeper.send(b'{"version": 3}')
            pulse._take_in()
            assert "message from the keeper: version 3; this agent speaks version 1; restart the agent" in message_of(pulse)


def test_a_state_that_stays_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears nothing shall know that pulse hangs."""
    monkeypatch.chdir(tmp_path)
    audience = links.Audience()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ear:
        ear.connect(wire.PULSE_SOCKET)
        audience.welcome()
        for _ in range(2):
            audience.tell(b"all is well")
            assert ear.recv(100, socket.MSG_DONTWAIT) == b"all is well"


def test_a_report_that_does_not_listen_makes_nobody_wait_and_hears_the_latest_when_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps its socket, and what is sent to it fills up."""
    monkeypatch.chdir(tmp_path)
    audience = links.Audience()

    def hangs(*_: object) -> None:
        raise AssertionError("report made pulse wait")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(10)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as ear:
            ear.connect(wire.PULSE_SOCKET)
            audience.welcome()
            for number in range(2000):
                audience.tell(b"%d" % number + bytes(2000))
            heard = [int(ear.recv(4000).rstrip(b"\0"))]
            while heard[-1] < 2000:
                audience.tell(b"2000")
                heard.append(int(ear.recv(4000).rstrip(b"\0")))
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert len(heard) < 2000, "nothing was lost: it was not full"
