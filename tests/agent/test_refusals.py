"""Bad input to a real host: it does not arm, or drops and counts, and says exactly why, in all three places (everywhere.py).
(No watchdog, a busy one, a foreign disk: test_one_host.py; other timing, two machines on one slot: test_pool.py.)"""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import wire
from quorate_core import slot
from tests.agent import apiserver, reporting
from tests.agent.everywhere import explained, says_everywhere


def test_a_disk_written_by_a_newer_release_is_refused_and_left_alone(rig: Any, until: Any) -> None:
    pool = rig(1)
    header = bytearray(slot.encode_header(bytes.fromhex(pool.pool_id)))
    header[8] += 1
    newer = bytes(header).ljust(slot.DISK_BYTES, b"\0")
    pool.disk.write_bytes(newer)
    machine = pool.machines[0]
    machine.start()
    until("it refuses", lambda: machine.state().get("state") == "Refused")
    says_everywhere(machine, f"is format version {slot.VERSION + 1}; this agent reads version {slot.VERSION}; it is not overwritten")
    assert pool.disk.read_bytes() == newer


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("losetup") is None, reason="needs root and losetup")
def test_a_device_that_is_too_small_is_refused_with_its_size(rig: Any, tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(65536))
    made = subprocess.run(["losetup", "--find", "--show", tmp_path / "image"], capture_output=True, text=True, check=False, timeout=20)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    device = made.stdout.strip()
    try:
        pool = rig(1)
        pool.configure(disks=(device,))
        machine = pool.machines[0]
        machine.start()
        says_everywhere(machine, f"{device}: it is too small: 65536 bytes; a heartbeat disk needs {slot.DISK_BYTES}")
        assert (machine.state()["armed"], machine.state()["state"]) == (False, "Refused")
        assert "is too small" in machine.state()["storage"]["message"]
        pool.close()
    finally:
        subprocess.run(["losetup", "--detach", device], check=True, timeout=20)


ON_A_DEVICE = """
import sys
from types import SimpleNamespace
from quorate_agent.pulse import disk
from quorate_agent.pulse.__main__ import main
def answer(_, number, value, *rest):
    value[0] = {disk._BLKSSZGET: 8192, disk._BLKGETSIZE64: 1 << 30}[number]
disk.stat = SimpleNamespace(S_ISREG=lambda mode: False, S_ISBLK=lambda mode: True)
disk.fcntl = SimpleNamespace(ioctl=answer)
sys.exit(main())
"""
"""A pulse to which its disk seems to be a device with sectors of 8192 bytes: no kernel makes such a device of a file."""


def test_a_device_with_larger_sectors_than_a_slot_is_refused_with_their_size(rig: Any) -> None:
    pool = rig(1)
    (machine,) = pool.machines
    before = pool.disk.read_bytes()
    machine.start("keeper")
    machine._run("pulse", [sys.executable, "-c", ON_A_DEVICE, *machine.arguments("pulse")])
    says_everywhere(machine, f"heartbeat disk {pool.disk}: its sectors have 8192 bytes; a slot of 4096 bytes is written in one piece")
    assert "its sectors have 8192 bytes" in machine.state()["storage"]["message"]
    assert pool.disk.read_bytes() == before


def test_a_host_with_another_key_does_not_arm_and_both_say_whose_packets_are_dropped(rig: Any) -> None:
    pool = rig(2)
    pool.configure(only=("h1",), key=b"another key, of the right length")
    one, other = pool.machines
    one.start()
    other.start()
    for machine, peer in ((one, pool.members[1]), (other, pool.members[0])):
        words = f"packets from {peer.addresses[0]} ({peer.host}) are dropped: signature (another key?)"
        says_everywhere(machine, f"{peer.host} is not seen on the network; {words}")
        assert words in machine.state()["network"]["message"]
        assert f"WARNING: {words}" in machine.log("pulse"), "an armed host says it too"


def test_a_pool_without_a_key_arms_nobody_and_report_says_so_while_pulse_waits(rig: Any, until: Any) -> None:
    pool = rig(1)
    (machine,) = pool.machines
    (machine.folder / wire.CONFIG_FILE).unlink()
    machine.start()
    api = reporting.start(pool, machine, key=False)
    missing = "Secret quorate-heartbeat: it is missing; at least 16 bytes are needed to sign packets"
    words = f"{missing}; waiting for the pool's configuration"
    until("its HAHost says so", lambda: apiserver.told(api).get("message") == words)
    agent = apiserver.told(api)
    assert agent["armed"] is False
    assert f"WARNING: {missing}\n" in machine.log("report")
    until("pulse says that it waits", lambda: "not armed: waiting for the pool's configuration" in machine.log("pulse"), 10)
    assert "".join(words.split()) in explained(machine.name, agent)


def test_packets_of_another_pool_are_dropped_and_its_host_is_named(rig: Any) -> None:
    """Two pools were given one port and each other's addresses."""
    pool = rig(2)
    pool.configure(only=("h1",), pool_id="0" * 31 + "1", disks=(str(pool.folder / "other"),))
    (pool.folder / "other").write_bytes(slot.encode_header(bytes(15) + b"\1"))
    one, other = pool.machines
    one.start()
    other.start()
    words = f"packets from {pool.members[1].addresses[0]} (h1) are dropped: another pool (do two pools share one port?)"
    says_everywhere(one, words)
    assert f"WARNING: {words}" in one.log("pulse")


def test_a_host_lives_on_two_of_three_disks_and_dies_with_one(rig: Any, until: Any) -> None:
    """Row 54."""
    pool = rig(1)
    disks = [pool.folder / f"disk{i}" for i in range(3)]
    for disk in disks:
        disk.write_bytes(b"")
    pool.configure(disks=tuple(map(str, disks)))
    machine = pool.machines[0]
    machine.start()
    until("it arms", lambda: bool(machine.state().get("armed")))
    until("all three carry its slot", lambda: all(d.stat().st_size > slot.BLOCK_BYTES for d in disks))
    _lose(disks[0])
    until("it names the lost one", lambda: str(disks[0]) in machine.state()["storage"]["message"])
    pets = machine.dog.pets
    until("it is renewed for longer than a licence", lambda: machine.dog.pets > pets + 16)
    assert machine.state()["armed"] is True
    _lose(disks[1])
    until("the watchdog bites", lambda: machine.dog.bitten_at is not None)


def _lose(disk: Path) -> None:
    """The disk is another one from now on, of nobody: what pulse holds open is read as empty."""
    with disk.open("r+b") as file:
        file.truncate(0)
        file.write(b"somebody else's".ljust(slot.DISK_BYTES, b"."))


def test_a_host_whose_second_path_has_no_address_arms_on_the_first_and_names_the_second(rig: Any, until: Any) -> None:
    pool = rig(2)
    a, b = pool.members
    paths = (replace(a, addresses=(a.addresses[0], "203.0.113.9")), replace(b, addresses=(b.addresses[0], "203.0.113.10")))
    pool.configure(members=paths, interfaces=("red", "blue"))
    for machine in pool.machines:
        machine.start()
    for machine in pool.machines:
        until(f"{machine.name} arms", lambda m=machine: bool(m.state().get("armed")))
    network = pool.machines[0].state()["network"]
    assert network["ok"] is True
    assert network["message"] == f"blue: UDP 203.0.113.9 port {pool.port}: Cannot assign requested address"
