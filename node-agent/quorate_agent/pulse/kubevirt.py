"""Stops every KubeVirt VM of this host, and verifies it: the cgroups of all pods with a launcher are empty and nothing can fill them again.

First the kubelet and the container runtime are stopped (SIGSTOP), so that nothing new begins; then everything in those pods is killed.
`0 left` is said only after two looks, a second apart, at which both stood still, no container was just being made, and no process of a VM
was found anywhere. Whatever cannot be read, found or killed is a doubt or a process left: then the others wait for the watchdog.

It needs the host's PID namespace and the host's cgroup tree. cgroup v1 and v2: the tree is walked, so that it does not matter how a
container sees the path of its own cgroup.
"""

import errno
import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from quorate_agent import clock
from quorate_agent.pulse.stopper import Doubt

_KUBELETS = frozenset({"kubelet", "kubelite", "k3s-server", "k3s-agent"})
_RUNTIMES = frozenset({"containerd", "crio", "dockerd", "cri-dockerd"})
_MAKERS = ("runc", "crun", "youki")
"""What a runtime starts to make a container; while one runs, a pod may still get a process."""
_VM_PROCESSES = ("virt-launcher", "virtqemud", "qemu-")
_POD = re.compile(r"(^|-)pod[0-9a-f]{8}([-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}(\.slice)?$")
_LOOKS_APART_SECONDS = 1.0
_DEATH_SECONDS = 0.5
_LOOK_EVERY_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """A process by /proc: `states` of its threads, one letter each."""

    pid: int
    name: str
    states: str

    @property
    def gone(self) -> bool:
        """Whether nothing of it runs any more: it only waits for its parent."""
        return set(self.states) <= set("ZX")

    @property
    def stands_still(self) -> bool:
        """Whether each of its threads is stopped."""
        return set(self.states) <= set("TtZX") and not self.gone


class KubeVirtStopper:
    """The stopper of real hosts. `kill(pid, signal)` is the kernel's; tests bring their own, and their own trees."""

    def __init__(self, proc: Path, cgroups: Path, kill: Callable[[int, int], None] = os.kill) -> None:
        self._proc, self._cgroups, self._kill = proc, cgroups, kill
        self._pods: set[Path] = set()
        self._quiet: tuple[float, frozenset[int]] | None = None

    def stop(self) -> int:
        """Kill all VMs of this host and count what is left of them. Raises Doubt."""
        quiet, self._quiet = self._quiet, None
        held = self._hold_still()
        deadline = clock.now() + _DEATH_SECONDS
        while left := self._kill_all():
            quiet = None
            if clock.now() >= deadline:
                return left
            time.sleep(_LOOK_EVERY_SECONDS)
        if making := self._named(lambda name: name.startswith(_MAKERS)):
            raise Doubt(f"a container is just being made ({making[0].name}, process {making[0].pid})")
        now = clock.now()
        since = quiet[0] if quiet is not None and quiet[1] == held else now
        self._quiet = since, held
        if now - since < _LOOKS_APART_SECONDS:
            raise Doubt("no VM is found any more; a second look will tell")
        return 0

    def _hold_still(self) -> frozenset[int]:
        """Stop all that could start a VM; their pids. Raises Doubt unless all of them stand still."""
        found = self._named((_KUBELETS | _RUNTIMES).__contains__)
        for names, what in ((_KUBELETS, "kubelet"), (_RUNTIMES, "container runtime")):
            if not any(p.name in names for p in found):
                raise Doubt(f"no {what} is found, so it cannot be kept from starting VMs; does this pod share the host's PID namespace?")
        for process in found:
            if not process.stands_still:
                self._signal(process, signal.SIGSTOP)
        deadline = clock.now() + _DEATH_SECONDS
        while moving := [p for p in found if not self._look(p.pid).stands_still]:
            if clock.now() >= deadline:
                raise Doubt(f"{moving[0].name} (process {moving[0].pid}) does not stand still")
            time.sleep(_LOOK_EVERY_SECONDS)
        return frozenset(p.pid for p in found)

    def _kill_all(self) -> int:
        """Kill everything in the pods that hold, or held, a VM; the number of processes of VMs that were found."""
        inside = {pod: self._pids(pod) for pod in self._all_pods()}
        vms = {p.pid for p in self._named(lambda name: name.startswith(_VM_PROCESSES))}
        self._pods |= {pod for pod, pids in inside.items() if pids & vms}
        own = os.getpid()
        if any(own in inside.get(pod, ()) for pod in self._pods):
            raise Doubt("the agent's own cgroup seems to hold a VM")
        doomed = {pid for pod in self._pods for pid in inside.get(pod, ()) if not self._look(pid).gone}
        for pod in self._pods & set(inside):
            with suppress(OSError):  # before Linux 5.14 and in cgroup v1 there is no such file
                (pod / "cgroup.kill").write_text("1")
        for pid in doomed:
            self._signal(self._look(pid), signal.SIGKILL)
        return len(doomed | vms)

    def _all_pods(self) -> Iterator[Path]:
        any_group = False
        for folder, folders, files in os.walk(self._cgroups, onerror=_unreadable):
            any_group = any_group or "cgroup.procs" in files
            for name in [name for name in folders if _POD.search(name)]:
                folders.remove(name)  # its containers belong to it; _pids looks into them
                yield Path(folder) / name
        if not any_group:
            raise Doubt(f"{self._cgroups} is no cgroup tree; is the host's mounted there?")

    def _pids(self, pod: Path) -> set[int]:
        """All processes of a pod. Raises Doubt."""
        found: set[int] = set()
        for folder, _, files in os.walk(pod, onerror=_unreadable):
            for name in {"cgroup.procs", "tasks"} & set(files):  # in v1 `tasks` also shows what a dead leader has left behind
                try:
                    lines = (Path(folder) / name).read_text().split()
                except OSError as error:
                    if error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP):
                        continue  # gone meanwhile; or a threaded group of v2, whose processes the group above lists
                    raise Doubt(f"{folder}/{name}: {error.strerror}") from error
                if "0" in lines:
                    raise Doubt(f"{folder}/{name} names a process of another PID namespace; does this pod share the host's?")
                found |= {int(line) for line in lines}
        return found

    def _named(self, wanted: Callable[[str], bool]) -> list[Process]:
        """All processes whose name is wanted and that have not ended. Raises Doubt."""
        try:
            pids = [int(entry.name) for entry in self._proc.iterdir() if entry.name.isdigit()]
            found = []
            for pid in pids:
                with suppress(FileNotFoundError, ProcessLookupError):
                    if wanted(_parse(_text(self._proc / str(pid) / "stat"))[0]):
                        found.append(self._look(pid))
        except (OSError, ValueError) as error:
            raise Doubt(f"{self._proc}: {error}") from error
        return [process for process in found if not process.gone]

    def _look(self, pid: int) -> Process:
        """That process now; one that has ended is gone. Raises Doubt."""
        folder, states = self._proc / str(pid), ""
        try:
            name, state = _parse(_text(folder / "stat"))
            with suppress(FileNotFoundError, ProcessLookupError):
                for thread in (folder / "task").iterdir():
                    with suppress(FileNotFoundError, ProcessLookupError):
                        states += _parse(_text(thread / "stat"))[1]
        except (FileNotFoundError, ProcessLookupError):
            return Process(pid, "", "X")
        except (OSError, ValueError) as error:
            raise Doubt(f"process {pid}: {error}") from error
        return Process(pid, name, states or state)

    def _signal(self, process: Process, number: int) -> None:
        try:
            self._kill(process.pid, number)
        except ProcessLookupError:
            return
        except OSError as error:
            raise Doubt(f"{process.name} (process {process.pid}) cannot be sent signal {number}: {error.strerror}") from error


def _unreadable(error: OSError) -> None:
    if error.errno != errno.ENOENT:
        raise Doubt(f"the cgroup tree cannot be read: {error}")


def _text(stat: Path) -> str:
    # Any process may give itself a name that is no UTF-8, and one that the kernel cuts off may end within a character.
    return stat.read_bytes().decode(errors="backslashreplace")


def _parse(stat: str) -> tuple[str, str]:
    """Name and state of a line of /proc/PID/stat. The name may hold anything, also parentheses. Raises ValueError."""
    head, found, rest = stat.rpartition(")")
    if not found or not rest.strip():
        raise ValueError(f"its stat reads {stat[:40]!r}")
    return head.partition("(")[2], rest.split()[0]
