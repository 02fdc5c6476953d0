"""The launcher processes of a host, and the forwarder that stands in for a Service."""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from quorate_local import forward, verdict
from quorate_local.guests import Guests


@pytest.fixture
def guests(tmp_path: Path) -> Guests:
    """A host's launchers."""
    return Guests("h1", tmp_path / "run", tmp_path / "disks")


def written(tmp_path: Path, disk: str = "vm.disk") -> tuple[verdict.Run, ...]:
    """The runs that a disk tells of."""
    path = tmp_path / "disks" / disk
    return verdict.read_disk(disk, path.read_text()).runs if path.exists() else ()


def until(holds: Callable[[], object]) -> None:
    """Poll."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def wait_for_lines(tmp_path: Path, disk: str = "vm.disk") -> None:
    """Until the launcher has written."""
    until(lambda: written(tmp_path, disk))


def gone(guests: Guests, uid: str, grace_seconds: float) -> None:
    """Stop until it is gone."""
    until(lambda: guests.stop(uid, grace_seconds))


def test_a_launcher_writes_its_host_and_incarnation_to_the_disk(guests: Guests, tmp_path: Path) -> None:
    guests.start("uid-1", "vm.disk")
    wait_for_lines(tmp_path)
    assert guests.runs("uid-1")
    gone(guests, "uid-1", 10)
    assert [(run.host, run.incarnation) for run in written(tmp_path)] == [("h1", "uid-1")]


def test_a_restarted_stand_in_adopts_what_runs_and_starts_nothing_twice(guests: Guests, tmp_path: Path) -> None:
    guests.start("uid-1", "vm.disk")
    wait_for_lines(tmp_path)
    again = Guests("h1", tmp_path / "run", tmp_path / "disks")
    assert again.runs("uid-1")
    again.start("uid-1", "vm.disk")
    assert again.uids() == {"uid-1"}
    gone(again, "uid-1", 0)
    assert len(written(tmp_path)) == 1
    assert verdict.read_disk("vm", (tmp_path / "disks" / "vm.disk").read_text()).conflicts == ()


def test_after_a_boot_no_pod_of_an_earlier_boot_is_known(guests: Guests, tmp_path: Path) -> None:
    guests.start("uid-1", "vm.disk")
    wait_for_lines(tmp_path)
    os.kill(int((tmp_path / "run" / "launchers" / "uid-1").read_text()), signal.SIGKILL)
    rebooted = Guests("h1", tmp_path / "emptied-run", tmp_path / "disks")
    assert not rebooted.known("uid-1")
    assert not rebooted.runs("uid-1")


def test_a_light_guest_runs_nothing(tmp_path: Path) -> None:
    light = Guests("light-1", None, None)
    light.start("uid-1", "vm.disk")
    assert light.runs("uid-1")
    assert light.stop("uid-1", 10)
    assert not light.runs("uid-1")
    assert list(tmp_path.iterdir()) == []


async def echo(name: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer with a name and what was said."""
    writer.write(name + b" heard " + await reader.readline())
    writer.close()


async def ask(port: int) -> bytes:
    """One question through the forwarder."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"you\n")
    answer = await reader.read()
    writer.close()
    return answer


def test_the_forwarder_takes_turns_and_skips_a_replica_that_is_down() -> None:
    async def scene() -> tuple[set[bytes], set[bytes]]:
        servers = [await asyncio.start_server(lambda r, w, n=name: echo(n, r, w), "127.0.0.1", 0) for name in (b"a", b"b")]
        ports = [server.sockets[0].getsockname()[1] for server in servers]
        forwarder = forward.Forwarder([("127.0.0.1", port) for port in ports])
        front = await asyncio.start_server(forwarder.carry, "127.0.0.1", 0)
        port = front.sockets[0].getsockname()[1]
        both = {await ask(port), await ask(port)}
        servers[0].close()
        await servers[0].wait_closed()
        left = {await ask(port), await ask(port)}
        return both, left

    both, left = asyncio.run(asyncio.wait_for(scene(), 30))
    assert both == {b"a heard you\n", b"b heard you\n"}
    assert left == {b"b heard you\n"}
