"""Pulse's disks: real files with O_DIRECT, several as one, and the disks that are refused, by name and number."""

import errno
import fcntl
import mmap
import os
import select
import shutil
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import direct, wire
from quorate_agent.pulse import alarms, disk, remembered
from quorate_agent.pulse.storage import Storage
from quorate_core import backup, slot
from quorate_core.heart import Heart, StartCycle
from quorate_core.licence import Cycle
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

POOL, OTHER = bytes(range(1, 17)), bytes(range(2, 18))
HEADER = slot.encode_header(POOL)


def block(sequence: int) -> bytes:
    said = Statement("a", 0, 7, sequence, bytes(32), Phase.ARMED)
    return slot.encode(Slot(POOL, bytes(16), said, STANDARD.values, True))


def run(storage: Storage, paths: list[Path], number: int, write: bytes | None = None, header: bytes | None = None) -> Cycle:
    """One whole cycle on those disks; all of them are told that they may begin."""
    order = StartCycle(tuple(map(str, paths)), number, 0, write, header, 1, tuple(range(len(paths))) if header else ())
    storage.order(POOL, 100.0, order)
    deadline = time.monotonic() + 10
    while not (found := storage.results()):
        assert time.monotonic() < deadline, "no cycle came back"
        select.select(storage.sources(), [], [], 1.0)
    return found[0]


def settle(storage: Storage) -> None:
    """Until every disk has answered."""
    deadline = time.monotonic() + 10
    while storage._state.busy:
        assert time.monotonic() < deadline, "a disk does not answer"
        select.select(storage.sources(), [], [], 1.0)
        storage.results()


def disks(folder: Path, *contents: bytes) -> list[Path]:
    """Files in a folder that supports O_DIRECT."""
    made = []
    for number, content in enumerate(contents):
        path = folder / f"disk{number}"
        path.write_bytes(content)
        made.append(path)
    return made


def test_three_disks_carry_one_cycle_and_each_holds_the_block(tmp_path: Path) -> None:
    paths, storage = disks(tmp_path, b"", b"", b""), Storage()
    # Two of three are enough for a cycle; the third is done a little later.
    for number, header in ((1, None), (2, None), (3, HEADER), (4, None)):
        blank = run(storage, paths, number, header=header).blank
        settle(storage)
    assert blank == ()
    done = run(storage, paths, 5, block(1))
    settle(storage)
    assert (done.error, done.header, done.written) == ("", HEADER, block(1))
    assert [slot.decode(path.read_bytes()[4096:8192]).statement.sequence for path in paths] == [1, 1, 1]


def test_a_third_disk_that_fails_is_named_and_the_cycle_counts(tmp_path: Path) -> None:
    paths = disks(tmp_path, HEADER, HEADER)
    storage = Storage()
    gone = tmp_path / "gone"
    assert run(storage, [*paths, gone], 1, block(1)).error == ""
    settle(storage)
    assert storage.problem == f"heartbeat disk {gone}: No such file or directory"


def test_with_two_disks_both_are_needed(tmp_path: Path) -> None:
    (path,) = disks(tmp_path, HEADER)
    done = run(Storage(), [path, tmp_path / "gone"], 1, block(1))
    assert "no 2 of 2 heartbeat disks carry the same pool" in done.error
    assert "gone: No such file or directory" in done.error


@pytest.mark.parametrize(
    "content", [slot.encode_header(OTHER), b"a file system".ljust(8192, b"."), bytes(4096) + b"something".ljust(4096, b".")]
)
def test_a_disk_without_this_pools_header_is_never_written(tmp_path: Path, content: bytes) -> None:
    """The path may lead to another disk than a moment ago, when its header was found to be right."""
    (path,) = disks(tmp_path, HEADER)
    storage = Storage()
    assert run(storage, [path], 1, block(1)).written == block(1)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(content)
    done = run(storage, [foreign], 2, block(2), header=HEADER)
    assert foreign.read_bytes() == content
    assert done.written is None


LAST = 64 * 1024 * 1024


@pytest.mark.parametrize("at", [slot.offset_of(5), 65536 + 64, 1 << 20, backup.END_BYTES - 1, LAST - 512])
def test_a_disk_with_data_where_create_looks_is_not_empty(tmp_path: Path, at: int) -> None:
    """The superblock of btrfs, the labels of LVM and of an array lie behind the slots of a small pool."""
    (path,) = disks(tmp_path, b"")
    with path.open("r+b") as file:
        file.truncate(LAST)
        file.seek(at)
        file.write(b"_BHRfS_M")
    storage = Storage()
    assert run(storage, [path], 1).error == ""
    # Said on, also in a cycle that would not begin the disk.
    for number, header in ((2, HEADER), (3, None), (4, HEADER)):
        assert run(storage, [path], number, header=header).error == (
            f"heartbeat disk {path}: it holds something at byte {at}; it is not overwritten"
        )
    assert path.read_bytes()[: slot.BLOCK_BYTES] == bytes(slot.BLOCK_BYTES)
    os.truncate(path, 0)
    run(storage, [path], 5, header=HEADER)
    assert run(storage, [path], 6).header == HEADER


def short(monkeypatch: pytest.MonkeyPatch, *most: int) -> None:
    """The next reads bring no more than so many bytes each."""
    real, left = os.preadv, list(most)

    def read(file: int, buffers: list[memoryview], offset: int) -> int:
        assert offset % slot.BLOCK_BYTES == 0, "O_DIRECT reads at whole blocks"
        return min(real(file, buffers, offset), left.pop(0) if left else LAST)

    monkeypatch.setattr(os, "preadv", read)


@pytest.mark.parametrize("most", [(8192 + 512,), (4096, 512, 4096), (0,), (100,)], ids=str)
def test_a_short_read_is_read_on_and_hides_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: tuple[int, ...]) -> None:
    """As NFS and FUSE may answer; what is missing may say that this host was evicted."""
    said = Statement("b", 1, 8, 9, bytes(32), Phase.ARMED)
    evictor = slot.encode(Slot(POOL, bytes(16), said, STANDARD.values, True, evictions=((0, 7),)))
    (path,) = disks(tmp_path, (HEADER + block(1) + evictor).ljust(slot.DISK_BYTES, b"\0"))
    short(monkeypatch, *most)
    done = run(Storage(), [path], 1)
    assert (done.error, done.blocks[1]) == ("", evictor)


def test_a_read_that_stays_short_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (path,) = disks(tmp_path, HEADER.ljust(slot.DISK_BYTES, b"\0"))
    short(monkeypatch, 8192, 512, 512)
    assert run(Storage(), [path], 1).error == f"heartbeat disk {path}: only 8704 of 12288 bytes were read at byte 0"


@pytest.mark.parametrize("size", [0, 100, 4096, 8192 + 100])
def test_what_lies_behind_the_end_of_a_file_was_never_written(tmp_path: Path, size: int) -> None:
    content = (HEADER + block(1) + b"x" * 4096)[:size]
    (path,) = disks(tmp_path, content)
    done = run(Storage(), [path], 1)
    assert (done.error, done.header + done.blocks[0] + done.blocks[1]) == ("", content.ljust(3 * 4096, b"\0"))


def test_a_device_that_gives_nothing_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    device(monkeypatch, 512, slot.DISK_BYTES)
    monkeypatch.setattr(os, "preadv", lambda *_: 0)
    with mmap.mmap(-1, 4096) as buffer, pytest.raises(OSError, match="only 0 of 4096 bytes were read at byte 0") as error:
        direct.read(0, buffer, 0, 4096)
    assert error.value.errno == errno.EIO


def test_a_path_that_changes_is_served_by_a_new_worker_and_the_old_one_ends(tmp_path: Path) -> None:
    one, two = disks(tmp_path, HEADER, HEADER)
    storage = Storage()
    run(storage, [one], 1, block(1))
    assert run(storage, [two], 2, block(2)).written == block(2)
    assert slot.decode(one.read_bytes()[4096:8192]).statement.sequence == 1


def device(monkeypatch: pytest.MonkeyPatch, sector: int, size: int) -> Callable[[], None]:
    """`refuse_unusable` on a block device of that sector and size, in bytes."""

    def answer(_: int, number: int, value: Any, *__: object) -> int:
        value[0] = {disk._BLKSSZGET: sector, disk._BLKGETSIZE64: size}[number]
        return 0

    real = os.fstat(0)
    monkeypatch.setattr(fcntl, "ioctl", answer)
    monkeypatch.setattr(os, "fstat", lambda _: os.stat_result((stat.S_IFBLK | 0o600, *real[1:10])))
    return lambda: disk.refuse_unusable(0)


@pytest.mark.parametrize(("sector", "size"), [(512, slot.DISK_BYTES), (4096, 1 << 40)])
def test_a_device_with_sectors_of_512_or_4096_and_room_for_all_slots_is_taken(
    monkeypatch: pytest.MonkeyPatch, sector: int, size: int
) -> None:
    device(monkeypatch, sector, size)()


@pytest.mark.parametrize(
    ("sector", "size", "words"),
    [
        (8192, 1 << 30, "its sectors have 8192 bytes"),
        (520, 1 << 30, "its sectors have 520 bytes"),
        (0, 1 << 30, "its sectors have 0 bytes"),
        (512, slot.DISK_BYTES - 512, f"too small: {slot.DISK_BYTES - 512} bytes; a heartbeat disk needs {slot.DISK_BYTES}"),
    ],
)
def test_a_device_too_small_or_with_other_sectors_is_refused_with_the_number(
    monkeypatch: pytest.MonkeyPatch, sector: int, size: int, words: str
) -> None:
    with pytest.raises(OSError, match=words):
        device(monkeypatch, sector, size)()


def test_a_disk_that_cannot_be_opened_without_a_cache_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache would show this host what it wrote itself, not what the disk holds. open(2): the file system does not support O_DIRECT."""
    (path,) = disks(tmp_path, HEADER)
    real = os.open

    def cached_only(name: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", cached_only)
    done = run(Storage(), [path], 1, block(1))
    why = "it does not support direct I/O (O_DIRECT) in blocks of 4096 bytes; a cached disk cannot carry heartbeats"
    assert done.error == f"heartbeat disk {path}: {why}"
    assert path.read_bytes() == HEADER


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("losetup") is None, reason="needs root and losetup")
def test_a_real_device_that_is_too_small_is_refused_by_its_path(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(bytes(128 * 1024))
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False, timeout=20)
    if made.returncode:
        pytest.skip(f"no loop device here: {made.stderr.strip()}")
    try:
        done = run(Storage(), [Path(made.stdout.strip())], 1)
    finally:
        subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True, timeout=20)
    assert done.error == f"heartbeat disk {made.stdout.strip()}: it is too small: 131072 bytes; a heartbeat disk needs {slot.DISK_BYTES}"


CONFIG = wire.PulseConfig(
    "pool",
    POOL.hex(),
    True,
    "",
    20.0,
    8.0,
    "/dev/watchdog",
    ("/a", "/b", "/c"),
    6940,
    bytes(range(32)),
    (wire.MemberAddress("a", 0, ("10.0.0.1",)),),
    disks_generation=7,
)


def test_what_a_licence_belongs_to_is_remembered_for_this_boot_and_nobody_else_may_read_the_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert remembered.load("boot") is None
    remembered.save("boot", CONFIG)
    assert remembered.load("boot") == CONFIG
    assert remembered.load("another boot") is None
    assert stat.S_IMODE(Path(wire.LICENCE_FILE).stat().st_mode) == 0o600
    Path(wire.LICENCE_FILE).write_text('{"version": 1, "bootId": "boot", "config": 5}')
    with pytest.raises(wire.BadMessage, match=r"licence\.json: config"):
        remembered.load("boot")


def heart(evidence_at: float) -> Heart:
    config = PoolConfig(POOL, (Member(0, "a"),), STANDARD)
    return Heart("a", bytes(16), 7, config=config, evidence_at=evidence_at, deadline=evidence_at + 20)


def test_a_slow_cycle_and_an_old_proof_are_said_once_for_each_episode() -> None:
    """Inequality 12: T_c / 2 = 3 s, L / 2 = 10 s."""
    watch = alarms.Alarms()
    took = [watch.cycle(heart(0.0), Cycle(1, 100.0, 100.0, 100.0 + seconds, None)) for seconds in (1.0, 3.5, 5.0, 2.0, 3.1)]
    assert [len(said) for said in took] == [0, 1, 0, 0, 1]
    assert "3.5 s, more than half of the 6 s" in took[1][0].sentence
    aged = [watch.tick(heart(at), 100.0) for at in (95.0, 89.0, 88.0, 99.0, 89.9)]
    assert [len(said) for said in aged] == [0, 1, 0, 0, 1]
    assert "only 9.0 s of the licence of 20 s are left" in aged[1][0].sentence
    assert dict(watch.counts) == {alarms.SLOW_CYCLE: 2, alarms.OLD_EVIDENCE: 2}
