"""Failover against a small cluster that crashes, lags and loses: whatever the interleaving, no VM twice, none forgotten, in order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_core.failover import restart_order, step
from quorate_core.failover_facts import (
    Action,
    DeadHost,
    DeletePod,
    DiscardPod,
    Failover,
    LauncherPod,
    LiftGate,
    Observation,
    Restart,
    RestartStage,
    Stage,
    Standing,
    StartVm,
    Taint,
    Untaint,
    VmState,
)

HOSTS = ("h1", "h2", "h3", "h4")
VMS = {
    "ns/a": (Protection.PROTECTED, 1, "Always"),
    "ns/b": (Protection.PROTECTED, 1, "Manual"),
    "ns/c": (Protection.PROTECTED, 2, "Always"),
    "ns/d": (Protection.BEST_EFFORT, 0, "Always"),
    "ns/e": (Protection.UNPROTECTED, 0, "Always"),
}


def first_fit(snapshot: Snapshot, vms: Sequence[Vm], planned: Mapping[str, str]) -> dict[str, str | None]:
    found: dict[str, str | None] = {}
    for vm in vms:
        fitting = [h.name for h in snapshot.hosts if h.free_bytes >= vm.size_bytes]
        found[vm.key] = min(fitting, key=lambda name: name != planned.get(vm.key), default=None)
    return found


@dataclass
class Cluster:
    """API objects, what really runs, and KubeVirt, scheduler and kubelets as one-line rules. Memory: `room` VMs per host."""

    room: int
    holds: bool
    now: datetime = datetime(2030, 1, 1, tzinfo=UTC)
    boots: dict[str, int] = field(default_factory=lambda: dict.fromkeys(HOSTS, 1))
    up: set[str] = field(default_factory=lambda: set(HOSTS))
    certified: dict[str, int] = field(default_factory=dict)
    tainted: set[str] = field(default_factory=set)
    pods: dict[str, LauncherPod] = field(default_factory=dict)
    affinity: dict[str, str | None] = field(default_factory=dict)
    runs: dict[str, tuple[str, str]] = field(default_factory=dict)  # uid -> (vm, host), the real processes
    asked: set[str] = field(default_factory=set)
    failovers: tuple[Failover, ...] = ()
    late: list[Action] = field(default_factory=list)
    counter: int = 0

    def __post_init__(self) -> None:
        for n, vm in enumerate(VMS):
            self._pod(vm, HOSTS[n % 2], held=False)
        self.kubelets()

    def _pod(self, vm: str, host: str | None, *, held: bool) -> None:
        self.counter += 1
        uid = f"u{self.counter}"
        self.pods[uid] = LauncherPod(vm, uid, uid, host, gated=held)
        self.affinity[uid] = None

    # -- the world

    def kubevirt(self) -> None:
        for vm, (_, _, strategy) in VMS.items():
            if any(p.vm == vm for p in self.pods.values()):
                continue
            if strategy == "Always" or vm in self.asked:
                self.asked.discard(vm)
                recovering = any(f.stage is not Stage.COMPLETED for f in self.failovers)
                self._pod(vm, None, held=self.holds and recovering)

    def scheduler(self) -> None:
        for uid, pod in sorted(self.pods.items()):
            if pod.host is not None or pod.gated:
                continue
            used = [p.host for p in self.pods.values()]
            wish = self.affinity[uid]
            fits = [h for h in HOSTS if h in self.up and h not in self.tainted and used.count(h) < self.room and wish in (None, h)]
            self.pods[uid] = replace(pod, host=fits[0], unschedulable="") if fits else replace(pod, unschedulable="no room")

    def kubelets(self) -> None:
        for uid, pod in list(self.pods.items()):
            if pod.host in self.up and pod.deleting:
                self.runs.pop(uid, None)
                del self.pods[uid]
            elif pod.host in self.up and uid not in self.runs:
                if self.runs_before_boot(uid):
                    self.pods[uid] = replace(pod, deleting=True)  # restartPolicy Never: what a boot ended stays ended
                else:
                    self.runs[uid] = (pod.vm, pod.host)
                    self.started = {*getattr(self, "started", set()), uid}
        for uid, (_, host) in list(self.runs.items()):
            if uid not in self.pods and host not in self.up:
                del self.runs[uid]

    def runs_before_boot(self, uid: str) -> bool:
        return uid in getattr(self, "started", set())

    def die(self, host: str) -> None:
        self.up.discard(host)
        self.runs = {uid: (vm, where) for uid, (vm, where) in self.runs.items() if where != host}

    def certify(self, host: str) -> None:
        if host in self.up or self.certified.get(host) == self.boots[host]:
            return
        self.certified[host] = self.boots[host]
        found = [
            Restart(p.vm, p.uid, p.name, VMS[p.vm][0], VMS[p.vm][1], size_bytes=1, planned_host="h4")
            for p in self.pods.values()
            if p.host == host
        ]
        self.failovers = (
            *self.failovers,
            Failover(
                name=f"{host}-{self.boots[host]}",
                pool="p",
                host=host,
                incarnation=str(self.boots[host]),
                boot_id=str(self.boots[host]),
                generation=len(self.failovers) + 1,
                started_at=self.now,
                restarts=tuple(sorted(found, key=restart_order)),
            ),
        )

    def lose(self, host: str) -> None:
        self.die(host)
        self.certify(host)

    def boot(self, host: str) -> None:
        if host not in self.up and self.certified.get(host) == self.boots[host]:
            self.boots[host] += 1
            self.up.add(host)

    # -- the controller

    def turn(self, done: int, *, written: bool) -> None:
        """A turn that crashes after `done` actions, or before its state was written; what was not done comes late or never."""
        open_ = tuple(f for f in self.failovers if not f.finished)
        if not open_:
            return
        after, actions = step(open_, self.look(open_), first_fit)
        if not written:
            return
        self._check_order(actions)
        kept = {f.name: f for f in after}
        self.failovers = tuple(kept.get(f.name, f) for f in self.failovers)
        for action in actions[:done]:
            self.act(action)
        self.late = list(actions[done:])

    def look(self, open_: tuple[Failover, ...]) -> Observation:
        used = [p.host for p in self.pods.values()]
        vms = {}
        for vm, (_, _, strategy) in VMS.items():
            pods = [p for p in self.pods.values() if p.vm == vm]
            running = next((p for p in pods if p.uid in self.runs), None)
            phase = "Running" if running else ("Scheduling" if pods else None)
            vms[vm] = VmState(strategy, phase, running.host if running else None, vm in self.asked)
        return Observation(
            now=self.now,
            snapshot=Snapshot(Pool("p"), tuple(Host(h, self.room, used.count(h), accepts_vms=h not in self.tainted) for h in HOSTS)),
            hosts={f.host: self._dead_host(f) for f in open_},
            pods=tuple(self.pods.values()),
            vms=vms,
            held=self.holds,
        )

    def _dead_host(self, f: Failover) -> DeadHost:
        boot = str(self.boots[f.host])
        back = boot != f.boot_id
        return DeadHost(
            Standing.RETURNED if back else Standing.DEAD,
            node_ready=f.host in self.up,
            node_boot_id=boot,
            agent_joined=f.host in self.up,
            tainted=f.host in self.tainted,
            evicting=f.host in self.tainted,
        )

    def act(self, action: Action) -> None:
        match action:
            case DeletePod(_, _, uid, host, force) if uid in self.pods:
                if force:
                    # What a forced deletion does on a host that lives is the whole danger: the object goes, the process stays.
                    assert host not in self.up or self.pods[uid].host != host, f"{uid} deleted by force on the living {host}"
                    del self.pods[uid]
                else:
                    self.pods[uid] = replace(self.pods[uid], deleting=True)
            case DiscardPod(_, _, uid) if uid in self.pods and self.pods[uid].host is None:
                del self.pods[uid]
            case LiftGate(_, _, uid, host) if uid in self.pods and self.pods[uid].gated:
                self.pods[uid] = replace(self.pods[uid], gated=False)
                self.affinity[uid] = host
            case StartVm(vm):
                self.asked.add(vm)
            case Taint(host, _) if self.certified.get(host) == self.boots[host]:
                self.tainted.add(host)
            case Untaint(host):
                self.tainted.discard(host)
            case _:
                pass

    def sweep(self) -> None:
        if all(f.stage is Stage.COMPLETED for f in self.failovers):
            for uid, pod in self.pods.items():
                self.pods[uid] = replace(pod, gated=False)

    # -- the promises

    def check_no_vm_twice(self) -> None:
        running = [vm for vm, host in self.runs.values() if host in self.up]
        assert len(running) == len(set(running)), f"twice: {sorted(running)}"

    def _check_order(self, actions: Sequence[Action]) -> None:
        """A protected VM of a later priority is let go only when each earlier one runs, is blocked, is skipped or had its minute."""
        restarts = {r.vm: r for f in self.failovers if f.stage is not Stage.COMPLETED for r in f.restarts}
        queue = sorted(restarts.values(), key=restart_order)
        for action in actions:
            mine = restarts.get(action.vm) if isinstance(action, LiftGate) else None
            if mine is None or mine.protection is not Protection.PROTECTED:
                continue
            for earlier in queue:
                if earlier.protection is not Protection.PROTECTED or earlier.priority >= mine.priority:
                    continue
                vm_runs = earlier.vm in {vm for vm, _ in self.runs.values()}
                minute = earlier.due_at is not None and self.now - earlier.due_at >= timedelta(seconds=60)
                settled = earlier.stage in (RestartStage.BLOCKED, RestartStage.SKIPPED, RestartStage.RUNNING)
                assert vm_runs or minute or settled or mine.stage is RestartStage.PLACED, f"{mine.vm} before {earlier.vm}"


EVENTS = st.one_of(
    st.tuples(st.just("turn"), st.integers(0, 12), st.booleans()),
    st.tuples(st.just("turn"), st.just(99), st.just(True)),
    st.sampled_from(["kubevirt", "scheduler", "kubelets", "late", "sweep"]).map(lambda e: (e,)),
    st.tuples(st.just("wait"), st.sampled_from([1, 11, 61])),
    st.tuples(st.sampled_from(["die", "certify", "lose", "boot", "boot"]), st.sampled_from(["h1", "h2"])),
)


def play(cluster: Cluster, event: tuple[object, ...]) -> None:
    match event:
        case ("turn", int(done), bool(written)):
            cluster.turn(done, written=written)
        case ("late",):
            for action in cluster.late:
                # A forced deletion has a use-by time (actuate.py) that is shorter than any boot.
                if not (isinstance(action, DeletePod) and action.force and action.host in cluster.up):
                    cluster.act(action)
            cluster.late = []
        case ("wait", int(seconds)):
            cluster.now += timedelta(seconds=seconds)
        case (str(name), str(host)):
            getattr(cluster, name)(host)
        case (str(name),):
            getattr(cluster, name)()
    cluster.check_no_vm_twice()


def settle(cluster: Cluster) -> None:
    """Everybody does their work, again and again, until nothing changes any more."""
    for _ in range(60):
        for event in [("turn", 99, True), ("kubevirt",), ("turn", 99, True), ("scheduler",), ("kubelets",), ("sweep",), ("wait", 5)]:
            play(cluster, event)


@settings(max_examples=200, deadline=None)
@given(st.lists(EVENTS, min_size=12, max_size=60), st.booleans())
def test_no_interleaving_runs_a_vm_twice_or_forgets_one(events: list[tuple[object, ...]], holds: bool) -> None:
    cluster = Cluster(room=5, holds=holds)
    for event in events:
        play(cluster, event)
    for host in ("h1", "h2"):
        cluster.certify(host)
    settle(cluster)
    assert {vm for vm, _ in cluster.runs.values()} == set(VMS)
    assert all(f.stage is Stage.COMPLETED for f in cluster.failovers)
    assert not any(p.gated for p in cluster.pods.values())


@settings(max_examples=50, deadline=None)
@given(st.lists(EVENTS, min_size=8, max_size=40))
def test_vms_that_found_no_memory_run_when_a_host_returns(events: list[tuple[object, ...]]) -> None:
    cluster = Cluster(room=2, holds=True)
    for event in [*events, ("die", "h1"), ("die", "h2"), ("certify", "h1"), ("certify", "h2")]:
        play(cluster, event)
    settle(cluster)
    protected = {vm for vm, (protection, _, _) in VMS.items() if protection is Protection.PROTECTED}
    cluster.boot("h1")
    cluster.boot("h2")
    settle(cluster)
    assert protected <= {vm for vm, _ in cluster.runs.values()}
    assert cluster.tainted == set()


def test_the_model_would_notice_a_forced_deletion_on_a_living_host() -> None:
    cluster = Cluster(room=5, holds=True)
    uid, (vm, host) = next(iter(cluster.runs.items()))
    with pytest.raises(AssertionError, match="living"):
        cluster.act(DeletePod(vm, uid, uid, host, force=True))
