"""`quorate-statefile` on real files and loop devices: a wrong disk is refused before a byte is written, a right one is shown as it is."""

import fcntl
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate_agent.statefile import create, document, keep
from quorate_agent.statefile.device import Device, Unusable
from quorate_core import backup, slot
from quorate_core.slot import Evidence, Issued
from quorate_core.timing import STANDARD
from tests.agent.machines import Rig
from tests.agent.statefiles import NOW, OTHER, POOL, SHORT, TEXT, UID, blank, block, disk, manifests, ran

# create


def test_an_empty_file_is_bound_to_its_pool(tmp_path: Path) -> None:
    path = blank(tmp_path)
    status, said, _ = ran("create", path, "--pool-id", UID)
    assert (status, slot.decode_header(path.read_bytes()[: slot.BLOCK_BYTES])) == (0, POOL)
    assert f"belongs to pool {POOL.hex()}; 64 slots" in said
    assert ran("verify", path)[0] == 0


def changed_at(at: int) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = blank(folder, 64 * 1024 * 1024)
        with path.open("r+b") as file:
            file.seek(at)
            file.write(b"x")
        return path

    return make


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: disk(folder), f"it belongs to pool {POOL.hex()}; nothing was written"),
        (lambda folder: disk(folder, header=slot.encode_header(OTHER)), f"it belongs to pool {OTHER.hex()}; nothing was written"),
        (lambda folder: disk(folder, header=b"LUKS\xba\xbe"), "its first block is not empty: not written by Quorate; nothing was written"),
        (
            lambda folder: disk(folder, header=slot.encode_header(POOL)[:8] + b"\x09" + slot.encode_header(POOL)[9:]),
            "its first block is not empty: format version 9; this agent reads version 2; nothing was written",
        ),
        (changed_at(4097), "it holds something at byte 4097; nothing was written"),
        (changed_at(backup.END_BYTES - 1), f"it holds something at byte {backup.END_BYTES - 1}"),
        (changed_at(64 * 1024 * 1024 - 512), f"it holds something at byte {64 * 1024 * 1024 - 512}"),
        (lambda folder: blank(folder, slot.DISK_BYTES - 1), f"too small: {slot.DISK_BYTES - 1} bytes; a heartbeat disk needs 266240"),
        (lambda folder: folder, "neither a block device nor a file"),
        (lambda folder: folder / "nothing", "No such file"),
        (lambda folder: Path("/dev/null"), "neither a block device nor a file"),
    ],
    ids=["same pool", "other pool", "foreign", "newer", "slot area", "backup area", "end of disk", "small", "folder", "missing", "null"],
)  # fmt: skip
def test_a_disk_that_holds_anything_is_refused_and_left_as_it_was(make: Callable[[Path], Path], why: str, tmp_path: Path) -> None:
    path = make(tmp_path)
    before = path.read_bytes() if path.is_file() else b""
    status, _, said = ran("create", path, "--pool-id", UID)
    assert status == 1
    assert why in said
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_force_needs_the_pools_id_typed_once_more(tmp_path: Path) -> None:
    path = disk(tmp_path, header=slot.encode_header(OTHER))
    status, _, said = ran("create", path, "--pool-id", UID, "--force", OTHER.hex().replace("0", "1"))
    assert status == 1
    assert f"type the id of the pool that the disk is to belong to: {POOL.hex()}" in said
    assert slot.decode_header(path.read_bytes()[: slot.BLOCK_BYTES]) == OTHER


def test_force_empties_the_slots_and_the_backup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_SHORTEST_WATCH_SECONDS", 0.3)
    path = disk(tmp_path, (3, block(3, "old", pool_id=OTHER, timing=SHORT)), header=slot.encode_header(OTHER))
    keep.put(str(path), OTHER, TEXT, "old", NOW)
    create.create(str(path), POOL, POOL.hex(), lambda sentence: None)
    assert path.read_bytes() == slot.encode_header(POOL) + bytes(backup.END_BYTES - slot.BLOCK_BYTES)


def test_force_refuses_a_disk_whose_slots_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(create, "_LOOK_EVERY_SECONDS", 0.05)
    path = disk(tmp_path, (0, block(0, "node-0")))
    stop = threading.Event()

    def live() -> None:
        sequence = 6
        while not stop.wait(0.05):
            with Device(str(path), write=True) as device:
                device.write(slot.offset_of(0), block(0, "node-0", sequence))
            sequence += 1

    writer = threading.Thread(target=live)
    writer.start()
    try:
        with pytest.raises(Unusable, match="node-0 is writing slot 0: the disk is in use; stop the agents that use it first"):
            create.create(str(path), POOL, POOL.hex(), lambda sentence: None)
    finally:
        stop.set()
        writer.join()
    assert slot.decode_header(path.read_bytes()[: slot.BLOCK_BYTES]) == POOL


def test_an_armed_host_that_is_silent_is_waited_for_as_long_as_it_may_live() -> None:
    """Not for less: its storage may hang while its VMs run."""
    assert create._may_be_silent_for(block(0, "node-0")) == STANDARD.values.release_after_silence_seconds
    assert create._may_be_silent_for(block(0, "node-0", watchdog_armed=False)) == 0
    assert create._may_be_silent_for(b"x" * slot.BLOCK_BYTES) == 0


# real block devices


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Callable[[int, int], Path]]:
    """Makes a block device of that size with sectors of that size."""
    made: list[str] = []

    def make(size: int, sector: int) -> Path:
        lacks = "root" if os.geteuid() else "" if shutil.which("losetup") else "losetup"
        if lacks:
            pytest.skip(f"a block device needs {lacks}")
        image = tmp_path / f"image{len(made)}"
        image.write_bytes(b"")
        os.truncate(image, size)
        done = subprocess.run(["losetup", "-b", str(sector), "--find", "--show", image], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"a block device needs a loop device with sectors of {sector}: {done.stderr.strip()}")
        made.append(done.stdout.strip())
        return Path(made[-1])

    yield make
    for device in made:
        subprocess.run(["losetup", "-d", device], check=False)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_block_device_is_made_and_verified_whatever_its_sectors(loop: Callable[[int, int], Path], sector: int) -> None:
    device = loop(backup.END_BYTES, sector)
    assert ran("create", device, "--pool-id", UID)[0] == 0
    assert keep.put(str(device), POOL, TEXT, "node-0", NOW) is not None
    status, said, _ = ran("verify", device)
    assert (status, "backup of generation 1" in said) == (0, True)


def test_a_device_whose_sectors_are_larger_than_a_slot_is_refused(
    monkeypatch: pytest.MonkeyPatch, loop: Callable[[int, int], Path]
) -> None:
    device = str(loop(backup.END_BYTES, 512))
    real = fcntl.ioctl

    def larger(file: int, request: int, *arguments: Any) -> Any:
        result = real(file, request, *arguments)
        if request == 0x1268:  # BLKSSZGET; no device here has such sectors
            arguments[0][0] = 8192
        return result

    monkeypatch.setattr("quorate_agent.pulse.disk.fcntl.ioctl", larger)
    with pytest.raises(
        Unusable, match="its sectors have 8192 bytes; a slot of 4096 bytes is written in one piece on sectors of 512 to 4096 only"
    ):
        create.create(device, POOL, None, lambda sentence: None)


def test_a_device_that_is_too_small_is_refused_and_one_without_room_for_the_backup_is_not(loop: Callable[[int, int], Path]) -> None:
    status, _, said = ran("create", loop(slot.DISK_BYTES // 4096 * 4096 - 4096, 4096), "--pool-id", UID)
    assert (status, "too small: 262144 bytes; a heartbeat disk needs 266240" in said) == (1, True)
    tight = loop(1024 * 1024, 4096)
    status, said, _ = ran("create", tight, "--pool-id", UID)
    assert (status, "has no room for the backup: 1048576 bytes, 9437184 are needed" in said) == (0, True)
    with pytest.raises(Unusable, match="no room for the backup: 1048576 bytes; 9437184 are needed"):
        keep.put(str(tight), POOL, TEXT, "node-0", NOW)


def test_a_device_that_is_mounted_is_refused(loop: Callable[[int, int], Path], tmp_path: Path) -> None:
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("a mounted device needs mkfs.ext4")
    device, place = loop(backup.END_BYTES, 512), tmp_path / "mounted"
    subprocess.run(["mkfs.ext4", "-q", device], check=True)
    place.mkdir()
    if subprocess.run(["mount", device, place], capture_output=True, check=False).returncode:
        pytest.skip("a mounted device needs the right to mount")
    try:
        status, _, said = ran("create", device, "--pool-id", UID, "--force", UID)
        assert (status, "the system uses it: it is mounted" in said) == (1, True)
    finally:
        subprocess.run(["umount", place], check=True)


# dump and verify


def test_a_dump_says_what_every_slot_says_and_why_one_says_nothing(tmp_path: Path) -> None:
    issued = (Issued(2, 9, 59.2, 59.0), Issued(3, 9, 53.1, 53.0, Evidence.EVICTION), Issued(4, 9, 7.0, 6.0, Evidence.CONFIRMED))
    full = block(0, "node-0", evictions=((3, 9),), certificates=issued, intent=0b11, weight=4)
    torn = block(2, "node-2", 6)[:512] + block(2, "another-host", 5)[512:]
    path = disk(tmp_path, (0, full), (1, block(1, "node-1", stopped=True)), (2, torn))
    keep.put(str(path), POOL, TEXT, "node-0", NOW)
    status, said, _ = ran("dump", path)
    assert status == 0
    for sentence in (
        f"header: pool {POOL.hex()}",
        "slot 0: proposes that only slot 0 (node-0), slot 1 (node-1) live on",
        "slot 0: has evicted slot 3, incarnation 0000000000000009",
        "slot 0: certifies slot 2, incarnation 0000000000000009, dead: its slot did not change; 59.2 s, 59 s needed",
        "dead: it was evicted and its time ran out; 53.1 s, 53 s needed",
        "dead: it was evicted and says that no VM is left on it; 7.0 s, 6 s needed",
        "watchdog runs, stopped",
        "checksum does not match",
        "of pool p, written by node-0 at 2026-01-01T00:00:00Z: 2 HAHost, 1 HAPool, 1 ProtectedVM",
        "backup copy 1: never written",
    ):
        assert sentence in said, sentence
    fields = json.loads(ran("dump", path, "-o", "json")[1])
    assert [one["slot"] for one in fields["slots"]] == [0, 1, 2]
    assert fields["slots"][0]["certificates"][1] == {
        "slot": 3, "incarnation": "0000000000000009", "evidence": "Eviction", "silentSeconds": 53.1, "boundSeconds": 53.0,
    }  # fmt: skip
    assert fields["slots"][2]["error"] == "checksum does not match"


def test_a_dump_moves_no_cursor(tmp_path: Path) -> None:
    status, said, _ = ran("dump", disk(tmp_path, (0, block(0, "node\x1b[2J\n"))))
    assert (status, "\x1b" in said, "node?[2J?" in said) == (0, False, True)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda folder: blank(folder), "header: never written"),
        (lambda folder: disk(folder, header=b"LUKS"), "header: not written by Quorate"),
        (lambda folder: disk(folder, (1, b"x" * 4096)), "slot 1: not written by Quorate"),
        (lambda folder: disk(folder, (1, block(1, "a", pool_id=OTHER))), f"slot 1: a wrote it for pool {OTHER.hex()}"),
        (lambda folder: disk(folder, (2, block(1, "a"))), "slot 2: a wrote here, but says that its slot is 1"),
        (lambda folder: disk(folder, (0, block(0, "a")), (1, block(1, "a"))), "slot 1: host a is also in slot 0"),
        (lambda folder: disk(folder, (1, block(1, "a", evictions=((1, 8),)))), "slot 1: a evicts itself"),
        (lambda folder: disk(folder, (1, block(1, "a", certificates=(Issued(1, 8, 1, 1),)))), "slot 1: a certifies itself"),
    ],
)  # fmt: skip
def test_verify_names_what_is_wrong(make: Callable[[Path], Path], why: str, tmp_path: Path) -> None:
    status, said, _ = ran("verify", make(tmp_path))
    assert (status, why in said) == (1, True), said


def test_verify_tells_a_disk_that_cannot_be_read_from_an_unsound_one(tmp_path: Path) -> None:
    assert ran("verify", tmp_path / "nothing")[0] == 2


def test_a_damaged_backup_copy_is_named_by_verify_and_the_other_is_restored(tmp_path: Path) -> None:
    path = disk(tmp_path)
    keep.put(str(path), POOL, TEXT, "node-0", NOW)
    keep.put(str(path), POOL, document.compose(*manifests(wish=2)), "node-1", NOW)
    with path.open("r+b") as file:
        file.seek(backup.offset_of(1) + slot.BLOCK_BYTES + 3)
        file.write(b"?")
    assert "backup copy 1: checksum of the payload does not match" in ran("verify", path)[1]
    status, said, _ = ran("restore", path)
    assert (status, "hostFailuresToTolerate: 1" in said) == (0, True)


# a pool that lives


def test_the_disk_of_a_pool_that_lives_is_sound_keeps_its_backup_and_is_never_made_again(
    rig: Callable[[int], Rig], until: Callable[..., float]
) -> None:
    pool = rig(2)
    pool.configure(licence_seconds=STANDARD.licence_seconds, watchdog_seconds=STANDARD.watchdog_seconds)
    for machine in pool.machines:
        machine.start()
    until("both are armed", lambda: all(machine.armed for machine in pool.machines))
    keep.put(str(pool.disk), bytes.fromhex(pool.pool_id), TEXT, "h0", NOW)
    status, said, why = ran("create", pool.disk, "--pool-id", pool.pool_id, "--force", pool.pool_id)
    assert (status, "the disk is in use; stop the agents that use it first" in why) == (1, True), said
    status, said, why = ran("verify", pool.disk)
    assert (status, "2 slots written, backup of generation 1" in said) == (0, True), said + why
    assert all(machine.armed for machine in pool.machines)
