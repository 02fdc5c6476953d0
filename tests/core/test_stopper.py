"""Stopping the VMs of a host that is fenced: `0 left` is said only of what is verified. On an invented host, and on real processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quorate_agent import clock
from quorate_agent.pulse import kubevirt, stopper
from quorate_agent.pulse.kubevirt import KubeVirtStopper
from quorate_agent.pulse.stopper import Counted, DevelopmentStopper, Doubt, Worker

POD = "pod01234567-89ab-cdef-0123-456789abcdef"


class Host:
    """Processes and cgroups as files, and a kernel that obeys signals. `deaf`: pids that no signal reaches."""

    def __init__(self, folder: Path, *, version: int = 2) -> None:
        self.proc, self.cgroups = folder / "proc", folder / "cgroup"
        self.tree = self.cgroups if version == 2 else self.cgroups / "pids"
        self.version = version
        self.deaf: set[int] = set()
        self.sent: list[tuple[int, int]] = []
        for place in (self.proc, self.tree / "kubepods/burstable"):
            place.mkdir(parents=True)
        (self.tree / "cgroup.procs").write_text("")
        self.process(10, "kubelet")
        self.process(11, "containerd")
        self.stopper = KubeVirtStopper(self.proc, self.cgroups, self.kill)

    def process(self, pid: int, name: str, group: str = "", state: str = "S") -> None:
        (self.proc / str(pid)).mkdir(exist_ok=True)
        (self.proc / str(pid) / "stat").write_text(f"{pid} ({name}) {state} 1 1 0\n")
        if group:
            place = self.tree / group
            place.mkdir(parents=True, exist_ok=True)
            for file in ["cgroup.procs"] + (["tasks"] if self.version == 1 else []):
                with (place / file).open("a") as procs:
                    procs.write(f"{pid}\n")

    def vm(self, pid: int, pod: str = POD, names: tuple[str, ...] = ("virt-launcher-m", "virt-launcher", "qemu-kvm")) -> None:
        """A launcher pod: its sandbox and its container."""
        self.process(pid, "pause", f"kubepods/burstable/{pod}/sandbox")
        for number, name in enumerate(names, pid + 1):
            self.process(number, name, f"kubepods/burstable/{pod}/compute")

    def kill(self, pid: int, number: int) -> None:
        self.sent.append((pid, number))
        if pid in self.deaf:
            return
        if not (self.proc / str(pid)).exists():
            raise ProcessLookupError
        if number == signal.SIGKILL:
            shutil.rmtree(self.proc / str(pid))
            for procs in [*self.tree.rglob("cgroup.procs"), *self.tree.rglob("tasks")]:
                procs.write_text("".join(f"{line}\n" for line in procs.read_text().split() if line != str(pid)))
            return
        name = (self.proc / str(pid) / "stat").read_text().partition("(")[2].partition(")")[0]
        self.process(pid, name, state="T" if number == signal.SIGSTOP else "S")

    def state(self, pid: int) -> str:
        return (self.proc / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]

    def stopped_by(self, number: int) -> set[int]:
        return {pid for pid, sent in self.sent if sent == number}


@pytest.fixture(autouse=True)
def clock_that_jumps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting is a jump: nothing here takes long."""
    now = [clock.now()]
    monkeypatch.setattr(kubevirt.clock, "now", lambda: now[0])
    monkeypatch.setattr(kubevirt.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(sys.modules[__name__], "later", lambda seconds: now.__setitem__(0, now[0] + seconds))


def later(seconds: float) -> None:
    """Time passes between two requests."""
    raise AssertionError("replaced by the fixture")


@pytest.fixture(params=[1, 2], ids=["cgroup v1", "cgroup v2"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Host:
    return Host(tmp_path, version=request.param)


def counted(host: Host) -> int | str:
    """The answer of one request: the number left, or the doubt."""
    try:
        return host.stopper.stop()
    except Doubt as why:
        return str(why)


def test_a_process_whose_name_is_no_utf_8_hinders_nothing(host: Host) -> None:
    """The kernel cuts names off at 15 bytes, also within a character."""
    host.vm(100)
    for pid, text in ((400, b"400 (aufnahme-pr\xc3) S 1 1 0\n"), (401, b"401 (\xff\xfe) S 1 1 0\n")):
        host.process(pid, "x", f"kubepods/burstable/{POD}/compute" if pid == 401 else "")
        (host.proc / str(pid) / "stat").write_bytes(text)
    assert counted(host) == "no VM is found any more; a second look will tell"
    later(1.1)
    assert counted(host) == 0
    assert host.stopped_by(signal.SIGKILL) == {100, 101, 102, 103, 401}


def test_the_vms_are_killed_the_kubelet_stands_still_and_a_second_look_says_that_none_is_left(host: Host) -> None:
    host.vm(100)
    host.process(300, "nginx", "kubepods/burstable/podfedcba98-7654-3210-fedc-ba9876543210/web")
    assert counted(host) == "no VM is found any more; a second look will tell"
    later(1.1)
    assert counted(host) == 0
    assert host.stopped_by(signal.SIGSTOP) == {10, 11}
    assert host.stopped_by(signal.SIGKILL) == {100, 101, 102, 103}
    assert host.state(300) == "S"


def test_the_kubelet_is_stopped_before_anything_is_killed(host: Host) -> None:
    """Else it starts again what was killed."""
    host.vm(100)
    counted(host)
    assert [number for _, number in host.sent].index(signal.SIGKILL) == 2
    assert set(host.sent[:2]) == {(10, signal.SIGSTOP), (11, signal.SIGSTOP)}


def test_an_unkillable_process_of_a_vm_is_never_no_vm(host: Host) -> None:
    """Row 57: qemu hangs in the kernel; the launcher that would tell its name is dead."""
    host.vm(100)
    host.process(103, "qemu-kvm", state="D")
    host.deaf.add(103)
    for _ in range(3):
        assert counted(host) == 1
        later(1.1)


def test_a_nameless_process_in_the_pod_of_a_vm_counts_too(host: Host) -> None:
    """Whatever runs in the pod may hold the VM's disk: the name of what was killed first no longer tells."""
    host.vm(100)
    host.process(104, "worker", f"kubepods/burstable/{POD}/compute", state="D")
    host.deaf.add(104)
    assert counted(host) == 1
    later(1.1)
    assert counted(host) == 1


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda h: shutil.rmtree(h.proc / "10"), "no kubelet is found"),
        (lambda h: shutil.rmtree(h.proc / "11"), "no container runtime is found"),
        (lambda h: h.deaf.add(10), "kubelet (process 10) does not stand still"),
        (lambda h: h.deaf.add(11), "containerd (process 11) does not stand still"),
        (lambda h: h.process(12, "runc:[2:INIT]"), "a container is just being made (runc:[2:INIT], process 12)"),
        (lambda h: shutil.rmtree(h.cgroups), "no cgroup tree"),
        (lambda h: (h.tree / f"kubepods/burstable/{POD}/compute/cgroup.procs").write_text("0\n"), "another PID namespace"),
        (lambda h: (h.proc / "13").mkdir() or (h.proc / "13/stat").write_text("?"), "its stat reads"),
    ],
    ids=["no kubelet", "no runtime", "kubelet runs on", "runtime runs on", "container being made", "no cgroups", "other pids", "odd proc"],
)  # fmt: skip
def test_what_cannot_be_known_or_held_is_a_doubt_and_no_count(host: Host, spoil: object, words: str) -> None:
    host.vm(100)
    assert callable(spoil)
    spoil(host)
    for _ in range(3):
        assert words in str(counted(host))
        later(1.1)


def test_a_thread_that_runs_on_is_not_standing_still(host: Host) -> None:
    for thread, state in (("10", "T"), ("77", "R")):
        (host.proc / "10/task" / thread).mkdir(parents=True)
        (host.proc / "10/task" / thread / "stat").write_text(f"{thread} (kubelet) {state} 1\n")
    assert "kubelet (process 10) does not stand still" in str(counted(host))


def test_a_vm_that_appears_between_two_looks_begins_the_count_anew(host: Host) -> None:
    """A container whose start was already under way when the runtime was stopped."""
    host.vm(100)
    counted(host)
    later(1.1)
    host.vm(200, POD.replace("0123", "4567", 1))
    assert counted(host) == "no VM is found any more; a second look will tell"
    later(1.1)
    assert counted(host) == 0
    assert {201, 202, 203} <= host.stopped_by(signal.SIGKILL)


def test_a_kubelet_that_was_started_anew_begins_the_count_anew(host: Host) -> None:
    """systemd's own watchdog kills a kubelet that stands still, and starts another."""
    counted(host)
    later(1.1)
    shutil.rmtree(host.proc / "10")
    host.process(20, "kubelet")
    assert counted(host) == "no VM is found any more; a second look will tell"
    assert host.state(20) == "T"


def test_a_vm_outside_of_any_pod_is_a_vm_left(host: Host) -> None:
    host.process(50, "qemu-system-x86")
    for _ in range(2):
        assert counted(host) == 1
        later(1.1)


def test_the_dead_that_nobody_has_waited_for_are_not_left(host: Host) -> None:
    host.vm(100)
    host.process(103, "qemu-kvm", state="Z")
    host.deaf.add(103)
    counted(host)
    later(1.1)
    assert counted(host) == 0


def test_the_systemd_names_of_pods_are_known_too(host: Host) -> None:
    slice_ = "kubepods-burstable-pod01234567_89ab_cdef_0123_456789abcdef.slice"
    host.process(101, "virt-launcher", f"kubepods.slice/kubepods-burstable.slice/{slice_}/cri-containerd-1.scope")
    host.process(102, "sidecar", f"kubepods.slice/kubepods-burstable.slice/{slice_}/cri-containerd-2.scope")
    counted(host)
    assert host.stopped_by(signal.SIGKILL) == {101, 102}


class Scripted:
    """A stopper that answers as it was told."""

    def __init__(self, *answers: int | str) -> None:
        self.answers = list(answers)

    def stop(self) -> int:
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            raise Doubt(answer)
        return answer


def answers_of(worker: Worker, number: int) -> list[Counted]:
    found: list[Counted] = []
    deadline = clock.now() + 10
    while len(found) < number and clock.now() < deadline:
        found += worker.answers()
        threading.Event().wait(0.01)
    return found


def test_the_worker_tells_a_doubt_from_a_count() -> None:
    worker = Worker(Scripted(2, "why not", 0))
    found = []
    for _ in range(3):
        worker.stop()
        found += answers_of(worker, 1)
    assert found == [Counted(2), Counted(None, "why not"), Counted(0)]


def test_a_stopper_that_hangs_is_asked_once() -> None:
    release = threading.Event()
    asked: list[int] = []

    class Hanging(Scripted):
        def stop(self) -> int:
            asked.append(1)
            release.wait(10)
            return 0

    worker = Worker(Hanging())
    for _ in range(5):
        worker.stop()
    assert worker.answers() == []
    release.set()
    assert len(answers_of(worker, 1)) == 1
    assert asked == [1]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, list[bytes], list[str]]]:
    """A development stopper's socket: its path, what it will answer, what it was asked."""
    path, replies, asked = tmp_path / "stopper", [], []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(4)

    def serve() -> None:
        while replies:
            client, _ = listener.accept()
            with client:
                asked.append(client.recv(64).decode())
                client.sendall(replies.pop(0))

    thread = threading.Thread(target=serve, daemon=True)
    threading.Timer(0.05, thread.start).start()
    yield str(path), replies, asked
    listener.close()


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [
        (b"left 0\n", 0),
        (b"left 3\n", 3),
        (b"doubt the machine is on fire\n", "the machine is on fire"),
        (b"left -1\n", "answers 'left -1'"),
        (b"left\n", "answers 'left'"),
        (b"left 0", "ended in the middle"),
        (b"", "ended in the middle"),
        (b"0\n", "answers '0'"),
    ],
)
def test_only_a_whole_and_exact_answer_of_the_development_stopper_counts(
    served: tuple[str, list[bytes], list[str]], reply: bytes, outcome: int | str
) -> None:
    path, replies, asked = served
    replies.append(reply)
    try:
        found: int | str = DevelopmentStopper(path).stop()
    except Doubt as why:
        found = str(why)
    assert found == outcome or (isinstance(outcome, str) and outcome in str(found))
    assert asked == ["stop\n"]


def test_a_development_stopper_that_is_not_there_is_a_doubt(tmp_path: Path) -> None:
    with pytest.raises(Doubt, match="No such file"):
        DevelopmentStopper(str(tmp_path / "none")).stop()
    assert stopper.DEVELOPMENT_PREFIX == "development:"


REAL = """
import os, signal, subprocess, sys, time
from pathlib import Path
from quorate_agent.pulse.kubevirt import KubeVirtStopper
from quorate_agent.pulse.stopper import Doubt
bins, group = Path(sys.argv[1]), Path(sys.argv[2])
pod = group / "kubepods" / "pod01234567-89ab-cdef-0123-456789abcdef"
(pod / "compute").mkdir(parents=True)
run = {name: subprocess.Popen([bins / name, "600"]) for name in ("kubelet", "containerd", "virt-launcher", "qemu-kvm", "nginx")}
for name in ("virt-launcher", "qemu-kvm"):
    (pod / "compute" / "cgroup.procs").write_text(str(run[name].pid))
stopper, said = KubeVirtStopper(Path("/proc"), group), []
for _ in range(8):
    try:
        said.append(stopper.stop())
    except Doubt as why:
        said.append(str(why))
    for name in ("virt-launcher", "qemu-kvm"):
        run[name].poll()
    if said[-1] == 0:
        break
    time.sleep(0.6)
print(said)
print({name: Path(f"/proc/{p.pid}/stat").read_text().split()[2] if p.poll() is None else p.returncode for name, p in run.items()})
for p in run.values():
    p.kill(); p.wait()
(pod / "compute").rmdir(); pod.rmdir(); pod.parent.rmdir()
"""


def _cgroup_root() -> Path | None:
    roots = [Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup")]
    return next((root for root in roots if (root / "cgroup.procs").exists() and os.access(root, os.W_OK)), None)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None or _cgroup_root() is None, reason="needs root, unshare, cgroups")
def test_real_processes_in_real_cgroups_are_stopped_and_killed(tmp_path: Path) -> None:
    """In a PID namespace of its own: the stopper sees nothing else of this machine."""
    for name in ("kubelet", "containerd", "virt-launcher", "qemu-kvm", "nginx"):
        shutil.copy(shutil.which("sleep") or "", tmp_path / name)
    root = _cgroup_root()
    assert root is not None
    group = root / f"quorate-test-{os.getpid()}"
    group.mkdir()
    try:
        command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", REAL, str(tmp_path), str(group)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    finally:
        for folder in sorted([group, *(p for p in group.rglob("*") if p.is_dir())], reverse=True):
            folder.rmdir()
    assert done.returncode == 0, done.stderr
    said, states = done.stdout.splitlines()
    assert said.endswith(", 0]"), said
    assert states == "{'kubelet': 'T', 'containerd': 'T', 'virt-launcher': -9, 'qemu-kvm': -9, 'nginx': 'S'}"
