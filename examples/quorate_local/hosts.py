"""The hosts of a local pool: power switch, network cable, and a way to reach into one.

As root each host is a network namespace on a switch of its own and a PID namespace; the switch is itself a namespace, so that
nothing appears in the network of this machine, and all of it vanishes with the processes. Otherwise hosts are plain processes on
loopback addresses: then their network cannot be cut, and a host's processes are found by their mark instead of by the kernel.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from quorate_local import cables, guests, processes, runs, stopper, watchdog
from quorate_local.problem import Problem

GATEWAY = "10.213.0.1"
PORT = 6443
GATEWAY_CARD = "02:00:0a:d5:00:01"
"""Hardware address of the gateway. Without one of its own a bridge takes the lowest of its ports', and changes it when that host goes off:
then the others send to an address that nobody has, and for some 15 s none of them reaches the API server."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all hosts of a pool share. `api` is server, CA, certificate and key for the stand-in."""

    api: tuple[str, Path, Path, Path]
    disks: Path
    namespace: str


class Rack:
    """All hosts of a pool, their switch and their watchdog."""

    def __init__(self, procs: processes.Processes, surroundings: Surroundings, api_port: int) -> None:
        self._procs = procs
        self.around = surroundings
        self.reboot_after_seconds: float | None = 3.0
        """How long after its watchdog's reset a host comes up again; None leaves it off."""
        self.isolated = os.geteuid() == 0 and _can_isolate()
        self.hosts: dict[str, Host] = {}
        self._count = 0
        self._due: dict[str, float] = {}
        self._lock = threading.RLock()
        self.resets: list[tuple[float, str]] = []
        self.watchdog = watchdog.Watchdog(procs.run.name, procs.run.folder / "watchdog", self._reset, self._power_on_due)
        self.stopper = stopper.Stopper(procs.run.name, procs.run.folder / "stopper", self._stop_or_resume)
        self.cables = cables.Cables(procs.run.name, procs.run.folder, GATEWAY)
        if self.isolated:
            self._start_switch(api_port)
        self.watchdog.start()
        self.stopper.start()

    @property
    def server(self) -> str:
        """The API server as the hosts reach it."""
        return f"https://{GATEWAY}:{PORT}" if self.isolated else self.around.api[0]

    def add(self, name: str, *, memory: str, labels: Mapping[str, str], agent: bool) -> "Host":
        """A new host, still off."""
        self._count += 1  # never the address of a host that was removed
        index = self._count
        address = f"10.213.0.{index + 1}" if self.isolated else f"127.213.{int(self._procs.run.name[:2], 16)}.{index + 1}"
        host = Host(self, name, index, address, memory, dict(labels), agent)
        host.folder.mkdir(parents=True)
        self.hosts[name] = host
        return host

    def stop(self) -> None:
        """Switch everything off; no host comes up again."""
        self.watchdog.stop()
        self.stopper.stop()
        for host in self.hosts.values():
            host.power_off()

    def _reset(self, name: str) -> None:
        """The watchdog's reset line (called in its thread)."""
        with self._lock:
            if host := self.hosts.get(name):
                self.resets.append((time.monotonic(), name))
                host.power_off()
                if self.reboot_after_seconds is not None:
                    self._due[name] = time.monotonic() + self.reboot_after_seconds

    def _stop_or_resume(self, name: str, asked: str) -> str:
        """What the agent of a host hears when it asks that (called in the stopper's thread)."""
        host = self.hosts.get(name)
        if host is None:
            return f"doubt {name} is no host of this pool"
        if asked == "resume":
            return stopper.resume(lambda: host.pids("standin"))
        return stopper.stop_vms(lambda: host.pids("standin"), lambda: host.pids(str(guests.LAUNCHER)))

    def _power_on_due(self) -> None:
        with self._lock:
            for name in [name for name, due in self._due.items() if time.monotonic() >= due]:
                del self._due[name]
                if (host := self.hosts.get(name)) and not host.is_on():
                    host.power_on()

    def _start_switch(self, api_port: int) -> None:
        self._procs.start("switch", ["unshare", "--net", "--", "sleep", "infinity"])
        own = Path("/proc/self/ns/net").readlink()
        self._procs.wait_until(lambda: Path(f"/proc/{self.switch_pid}/ns/net").readlink() != own, "the switch is there", needs=("switch",))
        self.ip(f"link add br0 address {GATEWAY_CARD} type bridge", f"addr add {GATEWAY}/16 dev br0", "link set br0 up", "link set lo up")
        netns = f"/proc/{self.switch_pid}/ns/net"
        forward = [sys.executable, "-m", "quorate_local.forward", "--netns", netns]
        self._procs.start("api-forwarder", [*forward, "--listen", f"{GATEWAY}:{PORT}", "--to", f"127.0.0.1:{api_port}"])

    @property
    def switch_pid(self) -> int:
        """The process that holds the switch's network namespace."""
        process = self._procs.get("switch")
        assert process is not None
        return process.pid

    def ip(self, *commands: str, pid: int | None = None) -> None:
        """Run `ip` commands in the switch, or in the namespace of a process."""
        done = subprocess.run(
            ["nsenter", "-t", str(pid or self.switch_pid), "-n", "ip", "-batch", "-"],
            input="\n".join(commands) + "\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=20,
        )
        if done.returncode:
            raise Problem(f"`ip {'; '.join(commands)}` failed: {done.stderr.strip()}: is iproute2 installed?")

    def environment(self, name: str) -> dict[str, str]:
        """The marks that every process of a host carries."""
        return {runs.HOST_MARK: f"{self._procs.run.name}.{name}"}

    @property
    def procs(self) -> processes.Processes:
        """The processes of the run."""
        return self._procs


@dataclass(slots=True)
class Host:
    """One host. Its folder holds the configuration and the boot id; `run_dir` is emptied by every boot."""

    rack: Rack
    name: str
    index: int
    address: str
    memory: str
    labels: dict[str, str]
    agent: bool

    @property
    def folder(self) -> Path:
        """What survives a reboot of this host."""
        return self.rack.procs.run.folder / "hosts" / self.name

    @property
    def run_dir(self) -> Path:
        """What a reboot empties."""
        return self.folder / "run"

    @property
    def agent_kubeconfig(self) -> Path:
        """The agent's kubeconfig; `report` starts once it exists."""
        return self.folder / "agent.kubeconfig"

    @property
    def boot_id(self) -> str:
        """The boot id of the present or latest boot."""
        return (self.folder / "boot-id").read_text().strip()

    def power_on(self) -> None:
        """Boot."""
        config = self.folder / "machine.json"
        config.write_text(json.dumps(self._machine()))
        command = [sys.executable, "-I", str(Path(__file__).with_name("machine.py")), str(config)]
        if self.rack.isolated:
            command = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", *command]
        process = self.rack.procs.start(self._process, command, env=self.rack.environment(self.name), stdin=subprocess.PIPE)
        if self.rack.isolated:
            self._plug_in()
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()

    def power_off(self) -> None:
        """Cut the power: every process of the host is dead when this returns."""
        process = self.rack.procs.get(self._process)
        if process is not None and self.rack.isolated:
            with contextlib.suppress(ProcessLookupError, Problem):
                os.kill(self.init_pid(), signal.SIGKILL)  # the kernel takes the whole namespace with its init
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)  # unshare ends after its child is reaped: nothing is left then
        self.rack.procs.kill(self._process)
        mark, value = next(iter(self.rack.environment(self.name).items()))
        runs.kill_marked(mark, value)
        self.rack.watchdog.power_cycle(self.name)

    def is_on(self) -> bool:
        """Whether it has power."""
        process = self.rack.procs.get(self._process)
        return process is not None and process.poll() is None

    def link(self, *, up: bool) -> None:
        """Plug its network cable in or out. Raises Problem where hosts have none of their own."""
        if not self.rack.isolated:
            raise Problem("hosts share the loopback network here: run as root to cut a host's cable.")
        self.rack.ip(f"link set v{self.index} {'up' if up else 'down'}")

    def pause(self, program: str) -> None:
        """SIGSTOP one of its programs: keeper, pulse, report, standin."""
        self._signal(program, signal.SIGSTOP)

    def resume(self, program: str) -> None:
        """SIGCONT."""
        self._signal(program, signal.SIGCONT)

    def kill(self, program: str) -> None:
        """SIGKILL; it is started again a second later."""
        self._signal(program, signal.SIGKILL)

    def pids(self, program: str) -> list[int]:
        """The processes of one of its programs."""
        mark, value = next(iter(self.rack.environment(self.name).items()))
        wanted = _MODULES.get(program, program).encode()
        found = []
        for pid in runs.marked(mark, value):
            with contextlib.suppress(OSError):
                if wanted in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"):
                    found.append(pid)
        return found

    def exec(self, *argv: str) -> str:
        """What a command prints that runs inside the host."""
        inside = []
        if self.rack.isolated:
            inside = ["nsenter", "-t", str(self.init_pid()), "-n", "-p", "-m", "--"]
        done = subprocess.run([*inside, *argv], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def init_pid(self) -> int:
        """The host's init as this machine numbers it. Raises Problem when it is off or did not boot."""
        process = self.rack.procs.get(self._process)
        end = time.monotonic() + 10
        while process is not None and time.monotonic() < end and process.poll() is None:
            if children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                return int(children[0])
            time.sleep(0.01)
        raise Problem(f"host {self.name} is off or did not boot: see {self.rack.procs.run.logs / self._process}.log.")

    def _signal(self, program: str, number: signal.Signals) -> None:
        pids = self.pids(program)
        if not pids:
            raise Problem(f"host {self.name} runs no {program}.")
        for pid in pids:
            os.kill(pid, number)

    @property
    def _process(self) -> str:
        return f"host-{self.name}"

    def _plug_in(self) -> None:
        pid, port = self.init_pid(), f"v{self.index}"
        with contextlib.suppress(Problem):
            self.rack.ip(f"link del {port}")  # the kernel takes its time to clear away the network of the boot before
        card = f"02:00:0a:d5:00:{self.index + 1:02x}"  # the same at every boot: the others remember it
        self.rack.ip(
            f"link add {port} type veth peer name eth0 address {card} netns {pid}", f"link set {port} master br0", f"link set {port} up"
        )
        self.rack.ip("link set lo up", f"addr add {self.address}/16 dev eth0", "link set eth0 up", pid=pid)
        self.rack.cables.plug_in(self.name, pid)

    def _machine(self) -> dict[str, object]:
        _, ca, cert, key = self.rack.around.api
        boot_id_file = str(self.folder / "boot-id")
        run_dir = ["--run-dir", str(self.run_dir)]
        common = [*run_dir, "--boot-id-file", boot_id_file]
        standin = ["--server", self.rack.server, "--ca", str(ca), "--cert", str(cert), "--key", str(key), *common]
        standin += ["--node", f"{self.name}={self.address}", "--memory", self.memory, "--disks", str(self.rack.around.disks)]
        for label, value in self.labels.items():
            standin += ["--label", f"{label}={value}"]
        programs = [self._program("standin", standin)]
        if self.agent:
            node = ["--node", self.name]
            reach = ["--kubeconfig", str(self.agent_kubeconfig), "--namespace", self.rack.around.namespace]
            programs += [
                self._program("keeper", common),
                self._program("pulse", [*common, *node, "--stopper", self.rack.stopper.option]),
                self._program("report", [*run_dir, *node, *reach]) | {"needs": [str(self.agent_kubeconfig)]},
                self._program("statefile", ["keep", *run_dir, *node]),
            ]
        return {
            "runDir": str(self.run_dir),
            "bootIdFile": boot_id_file,
            "logs": str(self.rack.procs.run.logs),
            "programs": programs,
            "address": self.address if self.rack.isolated else None,  # for `cables`: only a network of its own can be cut
        }

    def _program(self, name: str, options: list[str]) -> dict[str, object]:
        return {"name": name, "log": f"host-{self.name}-{name}", "command": [sys.executable, "-m", _MODULES[name], *options]}


_MODULES = {
    "standin": "quorate_local.standin",
    "keeper": "quorate_agent.keeper",
    "pulse": "quorate_agent.pulse",
    "report": "quorate_agent.report",
    "statefile": "quorate_agent.statefile",
}


def _can_isolate() -> bool:
    """Whether this machine lets us make network and PID namespaces (a container may not)."""
    try:
        probe = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "ip", "link"]
        return subprocess.run(probe, capture_output=True, check=False, timeout=20).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
