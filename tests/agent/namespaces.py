"""Hosts that are network, PID and mount namespaces on a switch of their own: links that can be cut both ways or one way, a heartbeat disk
that can fail for one host, and a power switch that leaves nothing running.

The switch is a namespace too, so nothing appears in the network of this machine, and all of it vanishes with the test: the first process of
each namespace reads a pipe of the test, and the kernel ends a PID namespace with its first process.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from quorate_agent import wire
from quorate_core.slot import Issued
from tests.agent.faultydisk import Fault, FaultyDisk
from tests.agent.machines import Dog, Machine, Rig

_ISOLATED = ("unshare", "--net", "--pid", "--mount", "--mount-proc", "--fork", "--kill-child", "--", "cat")
Link = tuple[int, int]
"""From one host to another, by their numbers; one direction only."""


def missing() -> str:
    """What this machine lacks for hosts in namespaces; "" if nothing."""
    if os.geteuid() != 0:
        return "root (for network namespaces)"
    for command, package in (
        ("ip", "iproute2"),
        ("nft", "nftables"),
        ("nsenter", "util-linux"),
        ("chrt", "util-linux"),
        ("mount", "mount"),
    ):
        if not any((Path(folder) / command).exists() for folder in [*os.environ["PATH"].split(":"), "/usr/sbin", "/sbin"]):
            return f"the command {command} (package {package})"
    if not Path("/dev/fuse").exists():
        return "/dev/fuse (FUSE in the kernel, visible in this container)"
    probe = "ip link add br0 type bridge && nft add table bridge probe"
    done = subprocess.run([*_ISOLATED[:-1], "sh", "-c", probe], capture_output=True, text=True, check=False, timeout=30)
    return f"the right to make network namespaces with a bridge and nft: {done.stderr.strip()}" if done.returncode else ""


class VmStopper:
    """Answers pulse's question for the VMs of one host, by the development stopper's protocol. `works`: it can stop them."""

    def __init__(self, path: Path, stop: Callable[[], None]) -> None:
        self.path, self._stop = path, stop
        self.works = True
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(8)
        threading.Thread(target=self._serve, name="stopper", daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                asker, _ = self._listener.accept()
                with asker:
                    if asker.recv(64) == b"resume\n":
                        asker.sendall(b"resumed\n")
                        continue
                    if self.works:
                        self._stop()
                    asker.sendall(b"left 0\n" if self.works else b"left 1\n")


class Namespace:
    """Network, PID and mount namespaces, alive until `close`."""

    def __init__(self) -> None:
        self._outer = subprocess.Popen(_ISOLATED, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = only_child(self._outer)
        wait_for_word(self.pid, "cat")
        self.enter = ["nsenter", "-t", str(self.pid), "--net", "--pid", "--mount", "--"]

    def run(self, *command: str, text: str = "") -> str:
        """What a command prints that runs in its network only: processes and files are those of this machine."""
        done = subprocess.run([*self.enter[:4], "--", *command], input=text, capture_output=True, text=True, check=False, timeout=20)
        if done.returncode:
            raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
        return done.stdout

    def close(self) -> None:
        """The kernel ends every process of it; none is left when this returns."""
        if self._outer.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        assert self._outer.stdin is not None
        self._outer.stdin.close()
        self._outer.wait()


@dataclass
class Host(Machine):
    """A machine in namespaces of its own, with one VM: a process that runs from boot until it is stopped or the power is cut.

    `reads` and `writes` are what its disk does, kept over its boots. `stopper` is who stops the VM when pulse asks; None: nobody.
    """

    number: int = 0
    plug: Callable[["Host"], None] = lambda _: None
    namespace: Namespace | None = None
    disk: FaultyDisk | None = None
    reads: Fault = "ok"
    writes: Fault = "ok"
    stopper: VmStopper | None = None
    boots: int = 0
    off_since: float | None = None
    _pids: dict[str, int] = field(default_factory=dict)
    _power: threading.Lock = field(default_factory=threading.Lock)

    @property
    def on(self) -> bool:
        """Whether it has power."""
        return self.namespace is not None

    def start(self, *names: str) -> None:
        """Start programs of it; the first start is a boot."""
        if self.namespace is None:
            self.off_since = None
            self.boots += 1
            self.namespace = Namespace()
            self.plug(self)
            self._run("vm", ["sleep", "infinity"])
        super().start(*names)

    def arguments(self, name: str) -> list[str]:
        """The command line of keeper or pulse, without the program."""
        stopped_by = ["--stopper", f"development:{self.stopper.path}"] if name == "pulse" and self.stopper is not None else []
        return [*super().arguments(name), *stopped_by]

    @property
    def vm_runs(self) -> bool:
        """Whether its VM does."""
        return self.on and self.processes["vm"].poll() is None

    def let_pulse_stop_vms(self) -> VmStopper:
        """From its next start on, pulse has somebody to ask."""
        self.stopper = VmStopper(self.folder / "stopper", lambda: self.signal("vm", signal.SIGKILL))
        return self.stopper

    def _run(self, name: str, command: list[str]) -> None:
        assert self.namespace is not None
        with (self.folder / f"{name}.log").open("ab") as log:
            # It begins as any process does; with the priority of the rig's own threads many that start at once would starve those that run.
            ordinary = ["chrt", "--other", "0", *self.namespace.enter, *command]
            process = subprocess.Popen(ordinary, stdin=subprocess.DEVNULL, stderr=log)
        self.processes[name] = process
        self._pids[name] = only_child(process)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Signal the program itself, not the nsenter that waits for it."""
        os.kill(self._pids[name], number)
        if number == signal.SIGCONT:
            self.processes[name].send_signal(number)  # nsenter stops itself with its child, but does not go on with it
        if number == signal.SIGKILL:
            self.processes[name].send_signal(signal.SIGCONT)
            self.processes[name].wait()

    def storage(self, *, reads: Fault | None = None, writes: Fault | None = None, both: Fault | None = None) -> None:
        """What this host's disk does from now on."""
        self.reads, self.writes = reads or both or self.reads, writes or both or self.writes
        if self.disk is not None:
            self.disk.set(reads=self.reads, writes=self.writes)

    def kill(self) -> None:
        """Cut the power: nothing of it runs when this returns, and no write of it that hangs will ever land."""
        with self._power:
            if self.namespace is None:
                return
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.namespace.pid, signal.SIGKILL)  # first, so that nothing can run once the disk lets go of it
            if self.disk is not None:
                self.disk.close()
            for process in self.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGCONT)  # an nsenter that has stopped itself reaps nothing, and the kernel waits for that
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
            super().kill()
            self.namespace.close()
            self.off_since = time.monotonic()
            self.namespace = self.disk = None

    def boot(self) -> None:
        """Switch on a host that is off: another boot id, an empty tmpfs, a watchdog at rest."""
        self.reborn()
        self.start()


class Pool(Rig):
    """Hosts in namespaces on one switch and one disk. `figures` are printed with the test's result."""

    def __init__(self, folder: Path, count: int, **defaults: Any) -> None:
        self.stopped = False
        self.figures: list[str] = []
        self.certificates: dict[tuple[int, int, int], float] = {}
        self.switch = Namespace()
        self.switch.run("ip", "-batch", "-", text="link add br0 type bridge\nlink set br0 up\n")
        super().__init__(folder, count, **defaults)
        self.hosts: list[Host] = [m for m in self.machines if isinstance(m, Host)]
        for number, host in enumerate(self.hosts):
            host.number = number
        self.links()

    def _members(self, count: int) -> tuple[wire.MemberAddress, ...]:
        return tuple(wire.MemberAddress(f"h{i}", i, (f"10.78.0.{i + 1}",)) for i in range(count))

    def _make(self, name: str, folder: Path, boot: Path, dog: Dog) -> Machine:
        return Host(name, folder, boot, dog, plug=self._plug)

    def _plug(self, host: Host) -> None:
        assert host.namespace is not None
        port = f"v{host.number}-{host.boots}"  # the port of its boot before this one may still be about to vanish
        add = f"link add {port} type veth peer name eth0 netns {host.namespace.pid}\nlink set {port} master br0\nlink set {port} up\n"
        self.switch.run("ip", "-batch", "-", text=add)
        address = self.members[host.number].addresses[0]
        host.namespace.run("ip", "-batch", "-", text=f"link set lo up\naddr add {address}/24 dev eth0\nlink set eth0 up\n")
        host.disk = FaultyDisk(self.disk)
        host.disk.mount(self.disk, host.namespace.enter)
        host.disk.set(reads=host.reads, writes=host.writes)

    def links(self, cut: Iterable[Link] = (), loss: Mapping[Link, int] | None = None) -> float:
        """Which links drop every heartbeat packet, and which a percentage of them; all others are whole. Since when."""
        drops = [f'iifname "v{a}-*" oifname "v{b}-*" udp dport {self.port} drop' for a, b in cut]
        drops += [
            f'iifname "v{a}-*" oifname "v{b}-*" udp dport {self.port} numgen random mod 100 < {percent} drop'
            for (a, b), percent in (loss or {}).items()
        ]
        rules = ["type filter hook forward priority 0; policy accept;", *drops]
        table = ["table bridge cuts {", "chain forward {", *rules, "}", "}"]
        self.switch.run("nft", "-f", "-", text="\n".join(["table bridge cuts", "delete table bridge cuts", *table, ""]))
        return time.monotonic()

    def split(self, *groups: Iterable[int]) -> float:
        """Only hosts of one group reach each other. Since when."""
        where = {number: index for index, group in enumerate(groups) for number in group}
        return self.links([(a, b) for a in where for b in where if where[a] != where[b]])

    def arm(self) -> None:
        """Boot all hosts and wait until all are armed."""
        started = time.monotonic()
        for host in self.hosts:
            host.start()
        self.until("all arm", lambda: all(h.armed for h in self.hosts))
        self.figures.append(f"{len(self.hosts)} hosts armed {time.monotonic() - started:.1f} s after power on")

    def power_off(self, *hosts: Host) -> float:
        """Cut the power of hosts; when that was."""
        at = time.monotonic()
        for host in hosts:
            host.kill()
        return at

    def until(self, what: str, holds: Callable[[], bool], seconds: float = 60) -> float:
        """Like wait_until; watches the promise all the while."""
        deadline = time.monotonic() + seconds
        while not holds():
            self.look()
            if time.monotonic() > deadline:
                pytest.fail(f"after {seconds:g} s it is still not so: {what}")
            time.sleep(0.05)
        self.look()
        return time.monotonic()

    def during(self, seconds: float, holds: Callable[[], bool], what: str) -> None:
        """It must hold all that time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.look()
            if not holds():
                pytest.fail(f"{end - time.monotonic():.1f} s too early it is not so any more: {what}")
            time.sleep(0.05)

    def look(self) -> None:
        """The promise: no certificate for a host whose VM still runs. Read from the disk itself, not from what the agents say."""
        if self.stopped:
            pytest.fail("the test run was stopped")
        now = time.monotonic()
        for issuer in self.hosts:
            for certificate in self.issued(issuer):
                key = (issuer.number, certificate.slot, certificate.incarnation)
                if key in self.certificates:
                    continue
                self.certificates[key] = now
                victim = self.hosts[certificate.slot]
                living = victim.state().get("incarnation") if victim.on else None
                if victim.vm_runs and living == f"{certificate.incarnation:016x}":
                    pytest.fail(f"{issuer.name} certified {victim.name} ({certificate.evidence.name}), whose VM runs")

    def issued(self, issuer: Host) -> tuple[Issued, ...]:
        """The certificates in that host's slot."""
        slot = self.slot(issuer.number)
        return slot.certificates if slot is not None else ()

    def certified(self, victim: Host, by: Iterable[Host] | None = None) -> bool:
        """Whether all of those say on the disk that this host's last life is dead."""
        issuers = self.hosts if by is None else by
        return all(any(c.slot == victim.number for c in self.issued(issuer)) for issuer in issuers)

    def certificate(self, victim: Host, by: Host) -> Issued:
        """The certificate of that host's death in another's slot."""
        return next(c for c in self.issued(by) if c.slot == victim.number)

    def alive(self) -> list[int]:
        """The hosts that are on and armed."""
        return [h.number for h in self.hosts if h.on and h.armed]

    def close(self) -> None:
        self.stopped = True
        super().close()
        for host in self.hosts:
            if host.stopper is not None:
                host.stopper.close()
        self.switch.close()


def only_child(process: "subprocess.Popen[bytes]", seconds: float = 10) -> int:
    """The process that this one has forked."""
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.01)
    raise OSError(f"{process.args!r} did not start")


def wait_for_word(pid: int, word: str, seconds: float = 10) -> None:
    """Until that process has become the program of that name: then it stands in its namespaces."""
    end = time.monotonic() + seconds
    while Path(f"/proc/{pid}/comm").read_text().strip() != word:
        if time.monotonic() > end:
            raise OSError(f"process {pid} did not become {word}")
        time.sleep(0.01)
