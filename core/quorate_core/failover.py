"""The failover workflow of a pool: from certified host failures to running VMs, as one pure step.

The state is what the Failover objects hold. Actions follow from state *and* observation, so a crash before, between or
after them changes nothing: the next step asks again for whatever is not yet so. Several failed hosts share one queue,
because they share the memory of the survivors.

Invariants:
* a pod is deleted by force only on a host whose certificate stands at that moment;
* a VM is let go only when no old pod of it is left on any host that is not back;
* a gate is lifted in restart order: protected by priority, then best-effort, then everything else.
"""

from dataclasses import replace
from datetime import timedelta

from quorate_core.facts import Protection
from quorate_core.failover_facts import (
    Action,
    Choose,
    DeadHost,
    DeleteAttachment,
    DeletePod,
    DiscardPod,
    Failover,
    Hold,
    LauncherPod,
    LiftGate,
    Observation,
    Restart,
    RestartStage,
    Say,
    Stage,
    Standing,
    StartVm,
    Taint,
    Untaint,
    VmState,
)
from quorate_core.failover_places import Places

HOLD_PATIENCE = timedelta(seconds=10)
"""How long a restart waits for the hold to work before it goes on without: order is worth seconds, not an outage."""
GROUP_PATIENCE = timedelta(seconds=60)
"""How long one priority waits for a VM that neither runs nor is blocked."""
START_PATIENCE = timedelta(seconds=10)
"""How long KubeVirt has to recreate a RerunOnFailure VM by itself before it is asked to."""
RETRY_FIRST_SECONDS = 10
RETRY_MAX_SECONDS = 300

_REFUSED = "the scheduler cannot place it"
_FINAL = ("Succeeded", "Failed")
_RESTARTABLE = ("Always", "RerunOnFailure", "Manual")
_RANK = {Protection.PROTECTED: 0, Protection.BEST_EFFORT: 1, Protection.UNPROTECTED: 2}

_ORDER = tuple[int, int]


def step(failovers: tuple[Failover, ...], seen: Observation, choose: Choose) -> tuple[tuple[Failover, ...], tuple[Action, ...]]:
    """Advance every unfinished failover of one pool by what is seen now. Actions are ordered and safe to repeat."""
    turn = _Step(failovers, seen, choose)
    turn.prepare()
    turn.follow()
    turn.call_up()
    turn.release()
    turn.place()
    turn.let_others_go()
    turn.finish()
    turn.welcome_back()
    return tuple(turn.failovers), tuple(turn.actions)


def restart_order(restart: Restart) -> tuple[int, int, str]:
    """Sort key of the restart order: protected by priority (lower first), best-effort, unprotected; then by name."""
    return (*_group(restart.protection, restart.priority), restart.vm)


def _group(protection: Protection, priority: int) -> _ORDER:
    return _RANK[protection], priority if protection is Protection.PROTECTED else 0


class _Step:
    """One step at work: the failovers as they become, and the actions so far."""

    def __init__(self, failovers: tuple[Failover, ...], seen: Observation, choose: Choose) -> None:
        self.failovers = list(failovers)
        self.actions: list[Action] = []
        self.seen = seen
        self.now = seen.now
        self._dead = {f.host for f in failovers if f.host_returned_at is None}
        self._places = Places(seen.snapshot, self._dead, choose)
        self._called: set[str] = set()
        self._vms = {vm.key: vm for vm in seen.snapshot.vms}
        self._pods: dict[str, list[LauncherPod]] = {}
        for pod in seen.pods:
            self._pods.setdefault(pod.vm, []).append(pod)

    # -- the phases of a step, in order

    def prepare(self) -> None:
        """Begin to release once the host is known dead (or rebooted) and new pods are held, or patience is out."""
        for n, f in enumerate(self.failovers):
            if f.stage is not Stage.PREPARING or self._host(f).standing is Standing.DOUBT:
                continue
            if self.seen.held:
                hold = Hold.HELD
            elif self.now - f.started_at >= HOLD_PATIENCE:
                hold = Hold.ABSENT
            else:
                continue
            self.failovers[n] = replace(f, stage=Stage.RELEASING, hold=hold)
            how = "held until their turn" if hold is Hold.HELD else "not held: old pods are deleted in order instead"
            self._say(f, None, "FailoverStarted", f"generation {f.generation}: restarting {len(f.restarts)} VMs of {f.host}, {how}")

    def follow(self) -> None:
        """Take note of what happened to each VM since the last step."""
        newest = {r.vm: f.generation for f in sorted(self.failovers, key=lambda f: f.generation) for r in f.restarts}
        for f, r in self._all():
            if r.stage in (RestartStage.RUNNING, RestartStage.SKIPPED):
                continue
            if newest[r.vm] > f.generation:
                self._set(f, r, stage=RestartStage.SKIPPED, reason=f"its new host failed too: failover {newest[r.vm]} restarts it")
                continue
            vm = self.seen.vms.get(r.vm)
            if vm is None or vm.strategy not in _RESTARTABLE:
                why = "the VM is gone" if vm is None else f"its run strategy is {vm.strategy}"
                self._set(f, r, stage=RestartStage.SKIPPED, reason=why)
                continue
            if r.stage is RestartStage.WAITING:
                continue
            self._follow_pods(f, r, vm)

    def _follow_pods(self, f: Failover, r: Restart, vm: VmState) -> None:
        pods = self._new_pods(r)
        bound = next((p for p in pods if p.host is not None), None)
        waiting = next((p for p in pods if p.host is None and not p.gated), None)
        if bound is not None and vm.vmi_phase == "Running" and vm.vmi_host == bound.host:
            self._set(f, r, stage=RestartStage.RUNNING, host=bound.host, reason="", retry_at=None, running_at=self.now)
            self._say(f, r.vm, "VMRestarted", f"{r.vm} of the failed host {f.host} runs on {bound.host}")
        elif bound is not None:
            self._set(f, r, stage=RestartStage.PLACED, host=bound.host, reason="", placed_at=r.placed_at or self.now)
        elif waiting is not None and waiting.unschedulable:
            self._not_scheduled(f, r, waiting)
        elif waiting is not None and r.stage is not RestartStage.BLOCKED:
            self._set(f, r, stage=RestartStage.PLACED, placed_at=r.placed_at or self.now)
        elif not pods and r.stage is RestartStage.PLACED:
            self._set(f, r, stage=RestartStage.RELEASED, host=None, reason="its new launcher pod is gone")

    def _not_scheduled(self, f: Failover, r: Restart, pod: LauncherPod) -> None:
        """The plan said it fits, the scheduler disagrees. Affinity of a pod cannot be changed any more: try again with a new pod."""
        if r.stage is not RestartStage.BLOCKED:
            self._block(f, r, f"{_REFUSED}: {pod.unschedulable}", retry=True)
        elif r.protection is Protection.PROTECTED and r.retry_at is not None and self.now >= r.retry_at:
            self._set(f, r, retry_at=self.now + _delay(r.attempts + 1))
            self.actions.append(DiscardPod(r.vm, pod.name, pod.uid))

    def call_up(self) -> None:
        """Say whose turn it is: a group's, when every VM of the groups before it is settled.

        It is said anew each step: a host that fails later may bring VMs that go before those already called.
        """
        groups: dict[_ORDER, list[tuple[Failover, Restart]]] = {}
        for f, r in self._queue():
            groups.setdefault(self._group_of(r), []).append((f, r))
        for members in groups.values():
            for f, r in members:
                self._called.add(r.vm)
                if r.due_at is None:
                    self._set(f, r, due_at=self.now)
            if not all(self._settled(self._now(f, r)) for f, r in members):
                return

    def release(self) -> None:
        """Taint dead hosts; delete their launcher pods and stale attachments, in restart order."""
        for f in self.failovers:
            if f.stage in (Stage.RELEASING, Stage.RESTARTING):
                self._taint(f)
        for f, r in self._queue():
            if f.stage is Stage.PREPARING or self._host(f).standing is Standing.DOUBT:
                continue
            if r.stage is RestartStage.WAITING:
                if f.hold is Hold.ABSENT and r.vm not in self._called:
                    continue
                self._set(f, r, stage=RestartStage.RELEASED, released_at=self.now)
            self._delete(f, [p for p in self._old_pods(f) if p.vm == r.vm])
            self._detach(f, r)
        for f in self.failovers:
            if f.stage in (Stage.RELEASING, Stage.RESTARTING) and self._host(f).standing is Standing.DEAD:
                listed = {r.vm for r in f.restarts}
                if self._group_of_last_waiting(f) is None:
                    self._delete(f, [p for p in self._old_pods(f) if p.vm not in listed])

    def place(self) -> None:
        """Let VMs whose turn it is go, highest priority first: each to its planned host, or where the rule says now."""
        for _, r in self._all():
            if r.stage is RestartStage.PLACED and r.host is not None and not any(p.host or p.gated for p in self._new_pods(r)):
                self._places.send(r, r.host)
        for f, r in self._queue():
            may_go = r.vm in self._called and r.stage in (RestartStage.RELEASED, RestartStage.BLOCKED)
            if not (may_go or r.stage is RestartStage.PLACED) or self._old_left(r):
                continue
            pods = self._new_pods(r)
            gated = next((p for p in pods if p.gated), None)
            if gated is not None and not any(p.host for p in pods):
                self._let_go(f, r, gated)
            elif not pods:
                self._await_pod(f, r)

    def _let_go(self, f: Failover, r: Restart, pod: LauncherPod) -> None:
        if self._group_of(r)[0] == _RANK[Protection.UNPROTECTED]:
            self._set(f, r, stage=RestartStage.PLACED, placed_at=r.placed_at or self.now)
            self.actions.append(LiftGate(r.vm, pod.name, pod.uid, None))
            return
        refused = r.stage is RestartStage.BLOCKED and r.reason.startswith(_REFUSED)
        target = self._places.another(r) if refused else self._places.target(r)
        if target is None:
            if r.stage is not RestartStage.BLOCKED and (soon := self._soon(r)):
                self._set(f, r, reason=f"waits until {soon}")
                return
            if r.stage is not RestartStage.BLOCKED or not r.reason.startswith("no host"):
                self._block(f, r, self._places.why_none(r), retry=False)
            return
        tries = r.attempts if r.stage is RestartStage.PLACED else r.attempts + 1
        self._places.send(r, target)
        self._set(f, r, stage=RestartStage.PLACED, host=target, attempts=tries, reason="", retry_at=None, placed_at=r.placed_at or self.now)
        self.actions.append(LiftGate(r.vm, pod.name, pod.uid, target))

    def _await_pod(self, f: Failover, r: Restart) -> None:
        """KubeVirt recreates most VMs by itself; Manual ones must be started, and one that stays away is reported."""
        vm = self.seen.vms[r.vm]
        ended = vm.vmi_phase is None or vm.vmi_phase in _FINAL
        patient = r.released_at is not None and self.now - r.released_at < START_PATIENCE
        if ended and vm.strategy == "Manual" and self._group_of(r)[0] == _RANK[Protection.UNPROTECTED]:
            self._set(f, r, stage=RestartStage.SKIPPED, reason="unprotected, and KubeVirt does not restart it by itself")
            return
        if ended and not vm.start_asked and (vm.strategy == "Manual" or (vm.strategy == "RerunOnFailure" and not patient)):
            self.actions.append(StartVm(r.vm))
        if r.stage is RestartStage.RELEASED and r.due_at is not None and self.now - r.due_at >= GROUP_PATIENCE:
            self._block(f, r, f"KubeVirt has made no new launcher pod for {GROUP_PATIENCE.total_seconds():g} s", retry=False)

    def let_others_go(self) -> None:
        """Lift held pods that are nobody's restart, once all protected and best-effort VMs had their turn."""
        if not all(self._settled(r) for _, r in self._queue() if self._group_of(r)[0] < _RANK[Protection.UNPROTECTED]):
            return
        queued = {r.vm for _, r in self._queue() if r.stage not in (RestartStage.RUNNING, RestartStage.SKIPPED)}
        for pod in sorted(self.seen.pods, key=lambda p: (p.vm, p.name)):
            if pod.gated and not pod.deleting and not pod.finished and pod.vm not in queued:
                self.actions.append(LiftGate(pod.vm, pod.name, pod.uid, None))

    def finish(self) -> None:
        """Move each failover on when nothing of its present stage is left."""
        for n, f in enumerate(self.failovers):
            if f.stage is Stage.RELEASING and (f.hold is Hold.ABSENT or not self._old_pods(f)):
                self.failovers[n] = f = replace(f, stage=Stage.RESTARTING)
            if f.stage is Stage.RESTARTING and not self._old_pods(f) and all(self._done(r) for r in f.restarts):
                self.failovers[n] = replace(f, stage=Stage.COMPLETED, completed_at=self.now)
                ran = sum(r.stage is RestartStage.RUNNING for r in f.restarts)
                seconds = (self.now - f.started_at).total_seconds()
                self._say(f, None, "FailoverCompleted", f"{ran} of {len(f.restarts)} VMs of {f.host} run again after {seconds:.0f} s")

    def welcome_back(self) -> None:
        """Take the taint off a host that provably rebooted, joined anew, and holds no old pod."""
        for n, f in enumerate(self.failovers):
            if f.host_returned_at is not None or f.stage is Stage.PREPARING:
                continue
            if any(g.host == f.host and g.generation > f.generation for g in self.failovers):
                self.failovers[n] = replace(f, host_returned_at=self.now)  # the host died again; its newer failover goes on
                continue
            host = self._host(f)
            booted = not host.node_boot_id or host.node_boot_id != f.boot_id
            back = host.standing is Standing.RETURNED and host.node_exists and host.node_ready and host.agent_joined and booted
            if not back or self._old_pods(f) or any(r.stage is RestartStage.WAITING for r in f.restarts):
                continue
            if host.tainted:
                self.actions.append(Untaint(f.host))
            else:
                self.failovers[n] = replace(f, host_returned_at=self.now)
                self._say(f, None, "HostReturned", f"{f.host} is back with a new boot and serves again")

    # -- what the phases are made of

    def _all(self) -> list[tuple[Failover, Restart]]:
        return [(f, r) for f in self.failovers for r in f.restarts]

    def _queue(self) -> list[tuple[Failover, Restart]]:
        """Every restart of every unfinished failover, in restart order."""
        return sorted(
            ((f, r) for f, r in self._all() if f.stage is not Stage.COMPLETED),
            key=lambda pair: (*self._group_of(pair[1]), pair[1].priority, pair[1].vm),
        )

    def _group_of(self, r: Restart) -> _ORDER:
        """Its place in the order by its present protection: people may change it while it waits."""
        vm = self._vms.get(r.vm)
        return _group(vm.protection if vm else r.protection, vm.priority if vm else r.priority)

    def _settled(self, r: Restart) -> bool:
        """Whether the groups after this VM's need not wait for it any longer."""
        match r.stage:
            case RestartStage.RUNNING:
                return r.running_at is None or self.now - r.running_at >= timedelta(seconds=r.start_delay_seconds)
            case RestartStage.BLOCKED | RestartStage.SKIPPED:
                return True
            case _:
                return r.due_at is not None and self.now - r.due_at >= GROUP_PATIENCE

    def _done(self, r: Restart) -> bool:
        """Whether the failover need not follow this VM any longer. A protected VM is followed until it runs."""
        if r.stage in (RestartStage.RUNNING, RestartStage.SKIPPED):
            return True
        rank = self._group_of(r)[0]
        if rank == _RANK[Protection.PROTECTED]:
            return False
        return self._settled(r) or (rank == _RANK[Protection.UNPROTECTED] and r.stage is RestartStage.PLACED)

    def _host(self, f: Failover) -> DeadHost:
        return self.seen.hosts.get(f.host, DeadHost(Standing.DOUBT, node_exists=False))

    def _old_pods(self, f: Failover) -> list[LauncherPod]:
        return [p for p in self.seen.pods if self._is_old(p, f)]

    def _is_old(self, pod: LauncherPod, f: Failover) -> bool:
        """Whether a pod is of the old life of the host. After its return only the recorded ones are: others may be new."""
        if pod.host != f.host or pod.finished:
            return False
        if self._host(f).standing is Standing.RETURNED:
            return any(pod.uid == r.uid for r in f.restarts)
        return f.host_returned_at is None

    def _old_left(self, r: Restart) -> bool:
        return any(self._is_old(p, f) for p in self._pods.get(r.vm, []) for f in self.failovers)

    def _new_pods(self, r: Restart) -> list[LauncherPod]:
        mine = self._pods.get(r.vm, [])
        return [p for p in mine if p.host not in self._dead and p.uid != r.uid and not p.finished and not p.deleting]

    def _taint(self, f: Failover) -> None:
        host = self._host(f)
        if host.standing is not Standing.DEAD or not host.node_exists or f.host_returned_at is not None:
            return
        # NB: NoExecute frees every pod at once; without a hold that would undo the order.
        evict = f.hold is Hold.HELD or self._group_of_last_waiting(f) is None
        if not host.tainted or (evict and not host.evicting):
            self.actions.append(Taint(f.host, evict))

    def _group_of_last_waiting(self, f: Failover) -> _ORDER | None:
        return max((self._group_of(r) for r in f.restarts if r.stage is RestartStage.WAITING), default=None)

    def _delete(self, f: Failover, pods: list[LauncherPod]) -> None:
        force = self._host(f).standing is Standing.DEAD
        self.actions += [DeletePod(p.vm, p.name, p.uid, f.host, force) for p in pods if force or not p.deleting]

    def _detach(self, f: Failover, r: Restart) -> None:
        if self._host(f).standing is Standing.DEAD:
            stale = [a for a in self.seen.attachments if a.host == f.host and a.vm == r.vm]
            self.actions += [DeleteAttachment(a.name, a.uid, a.vm) for a in stale]

    def _soon(self, r: Restart) -> str:
        """What is worth waiting for, but not longer than the group may take."""
        waits = r.due_at is not None and self.now - r.due_at < GROUP_PATIENCE
        return self._places.soon(r) if waits else ""

    def _block(self, f: Failover, r: Restart, reason: str, *, retry: bool) -> None:
        tries = r.attempts + 1 if r.stage is not RestartStage.PLACED else r.attempts
        again = self.now + _delay(tries) if retry else None
        self._set(f, r, stage=RestartStage.BLOCKED, host=None, attempts=tries, reason=reason[:1024], retry_at=again)
        if r.stage is not RestartStage.BLOCKED and tries <= 1:  # people are told once, not at each attempt
            self._say(f, r.vm, "VMRestartBlocked", f"{r.vm} of the failed host {f.host} cannot restart: {reason}", warning=True)

    def _set(self, f: Failover, r: Restart, **changes: object) -> None:
        n = next(i for i, other in enumerate(self.failovers) if other.name == f.name)
        restarts = tuple(replace(x, **changes) if x.vm == r.vm else x for x in self.failovers[n].restarts)  # type: ignore[arg-type]  # checked by replace
        self.failovers[n] = replace(self.failovers[n], restarts=restarts)

    def _now(self, f: Failover, r: Restart) -> Restart:
        """The restart as it is after changes of this step."""
        return next(x for g in self.failovers if g.name == f.name for x in g.restarts if x.vm == r.vm)

    def _say(self, f: Failover, vm: str | None, reason: str, message: str, *, warning: bool = False) -> None:
        self.actions.append(Say(f.host, vm, reason, message, warning))


def _delay(attempts: int) -> timedelta:
    return timedelta(seconds=min(RETRY_MAX_SECONDS, RETRY_FIRST_SECONDS * 2 ** max(0, attempts - 1)))
