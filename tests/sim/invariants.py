"""What must hold in every schedule, watched from outside with real time.

The promise: from the moment that anybody holds a certificate for an incarnation, its VMs may run elsewhere; so by then the machine that
it lived on must have ended, or have verifiably stopped its VMs, and what those had sent to a disk must have landed.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from quorate_core import copies
from quorate_core.slot import Issued, legible
from quorate_core.statement import Phase
from quorate_core.timing import DRAIN_SECONDS, Timing

from . import controller

if TYPE_CHECKING:
    from quorate_core.heart import Heart
    from quorate_core.pool import PoolConfig

    from .disks import SharedDisk
    from .engine import Engine
    from .host import Host


def slack_seconds(timing: Timing) -> float:
    """What a certificate may take beyond R_s and T_n: two cycles of the longest kind, clocks that are off, and a moment."""
    return 2 * timing.cycle_limit_seconds + 2


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not happen. `rule` is a short name, the same for all of its kind."""

    at: float
    rule: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a timeline. `kind` is phase, death, boot, certificate, eviction, storageless, vms, fault, or words."""

    at: float
    host: str
    kind: str
    what: str


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate when it first existed."""

    at: float
    issuer: str
    victim: int
    issued: Issued


class Monitor:
    """Sees every step of every host. `findings` is what was wrong; `log` is for the timeline, with words only if `listens`."""

    def __init__(self, engine: Engine, count: int) -> None:
        self._engine = engine
        self.hosts: list[Host] = []
        self.disks: list[SharedDisk] = []
        self.timing: Timing | None = None
        self.findings: list[Finding] = []
        self.log: list[Entry] = []
        self.listens = False
        self.certificates: list[Certified] = []
        self.certified_by: list[dict[tuple[int, int], float]] = [{} for _ in range(count)]
        self.evicted_by: list[set[tuple[int, int]]] = [set() for _ in range(count)]
        self._lives: dict[tuple[int, int], int] = {}
        self._armed_life = [0] * count
        self._armed_under: dict[tuple[int, int], PoolConfig] = {}
        self._disarmed: set[tuple[int, int]] = set()
        self.ends: dict[tuple[int, int], float] = {}
        self.deaths: list[tuple[int, int, float]] = []
        self.fenced: set[str] = set()
        self.stopped_vms: set[str] = set()
        self.touched = [0.0] * count
        self.armed_since: list[float | None] = [None] * count
        self.last_sign = [0.0] * count

    # what hosts do

    def pulse_started(self, host: Host, incarnation: int) -> None:
        """From now on this incarnation stands for this boot of the machine."""
        self._lives[host.index, incarnation] = host.life

    def after_step(self, host: Host, before: Heart, after: Heart) -> None:
        """The machine has decided something."""
        # Another life in the same boot, or one that a pulse goes on with.
        self._lives.setdefault((host.index, after.incarnation), host.life)
        if after.issued is not before.issued:
            for issued in after.issued:
                self._issued(host, issued)
        if after.phase is not before.phase:
            self._phase(host, after)
        life = (host.index, after.incarnation)
        proven = after.phase is Phase.ARMED and after.evidence_at is not before.evidence_at and not before.resuming
        # A pulse that goes on as armed, though the one before it had said otherwise, is so for others once it has written.
        if after.confirmed and (proven or not (before.confirmed or life in self._disarmed)):
            self._armed_life[host.index] = after.incarnation
            assert after.config is not None
            self._armed_under[life] = after.config
        if after.phase is Phase.DISARMED and before.phase is not Phase.DISARMED:
            # Its slot says so, or soon will: nobody may take its silence for death any more, though its own licence still may end it.
            self._armed_life[host.index] = 0
            self._disarmed.add(life)
        if after.storageless is not before.storageless:
            self.note(host.name, "storageless", "lives without storage" if after.storageless else "has storage again")
        if after.evictions is not before.evictions:
            for record in after.evictions:
                key = (record.slot, record.incarnation)
                if key not in self.evicted_by[host.index]:
                    self.evicted_by[host.index].add(key)
                    self.note(host.name, "eviction", f"evicts h{record.slot}/{record.incarnation:x}")

    def _phase(self, host: Host, heart: Heart) -> None:
        now = self._engine.now
        self.armed_since[host.index] = now if heart.phase is Phase.ARMED else None
        self.note(host.name, "phase", f"{heart.phase.name.lower()}{': ' + heart.message if heart.message else ''}")
        if heart.phase is Phase.FENCING:
            self.fenced.add(host.name)

    def _issued(self, host: Host, issued: Issued) -> None:
        key = (issued.slot, issued.incarnation)
        if key in self.certified_by[host.index]:
            return
        now = self._engine.now
        self.certified_by[host.index][key] = now
        self.certificates.append(Certified(now, host.name, issued.slot, issued))
        kind = issued.evidence.name.lower()
        self.note(host.name, "certificate", f"certifies h{issued.slot}/{issued.incarnation:x} ({kind}, {issued.silent_seconds:g} s)")
        life = self._lives.get(key)
        end = self.ends.get((issued.slot, life)) if life is not None else None
        if end is None or end + DRAIN_SECONDS > now + 1e-9:
            what = "still runs" if end is None else f"ended {now - end:.2f} s before, its writes land for {DRAIN_SECONDS:g} s"
            self.find("double run", f"{host.name} certified h{issued.slot}/{issued.incarnation:x} ({kind}), which {what}")
        victim = self.hosts[issued.slot]
        refusal = controller.refusal(host, victim, issued, self.timing) if self.timing is not None else ""
        if refusal:
            self.find("controller refuses", f"certificate of {host.name} for h{issued.slot}/{issued.incarnation:x}: {refusal}")

    def died(self, host: Host, why: str) -> None:
        """Its power is gone."""
        now = self._engine.now
        self.note(host.name, "death", why)
        self.ends.setdefault((host.index, host.life), now)
        self.armed_since[host.index] = None
        if self._armed_life[host.index]:
            self.deaths.append((host.index, self._armed_life[host.index], now))
        self._armed_life[host.index] = 0

    def vms_are_being_stopped(self, host: Host) -> None:
        """It has begun to kill its VMs."""
        self.stopped_vms.add(host.name)
        self.note(host.name, "vms", "stops its VMs")

    def vms_gone(self, host: Host) -> None:
        """No VM is left, and none can start before the next boot."""
        self.note(host.name, "vms", "its VMs are gone")
        self.ends.setdefault((host.index, host.life), self._engine.now)

    def said(self, host: Host, sentence: str, *, loud: bool) -> None:
        """A line of its log."""
        if self.listens and loud:
            self.note(host.name, "words", sentence)

    def note(self, host: str, kind: str, what: str) -> None:
        """One line for the timeline."""
        self.log.append(Entry(self._engine.now, host, kind, what))

    def find(self, rule: str, sentence: str) -> None:
        """Something is wrong."""
        self.findings.append(Finding(self._engine.now, rule, sentence))

    def sign(self, index: int) -> None:
        """Something that this host has sent reaches a disk or another host, perhaps long after it was sent."""
        self.last_sign[index] = self._engine.now

    def touch(self, index: int, *, for_good: bool = False) -> None:
        """A fault on this host begins or ends. `for_good`: from now on its disk fails at times, and it is never well for long."""
        self.touched[index] = math.inf if for_good else max(self.touched[index], self._engine.now)

    # what must hold at the end

    def check_the_dead_are_certified(self) -> None:
        """Every armed host that died is certified, if some host that may judge it has been armed and well for long enough since."""
        now = self._engine.now
        for index, incarnation, died in self.deaths:
            if any((index, incarnation) in known for known in self.certified_by):
                continue
            judges = self._judges(index, incarnation)
            for observer in self.hosts:
                armed, under = self.armed_since[observer.index], self._watches(observer, index, incarnation)
                if under is None or armed is None or not observer.alive or not judges >> observer.index & 1:
                    continue
                times = (under.timing, self._armed_under[index, incarnation].timing)
                bound = max(t.values.release_after_silence_seconds + slack_seconds(t) for t in times)
                spoken = self.last_sign[index] + under.timing.network_timeout_seconds
                waited = now - max(died, spoken, armed, self.touched[observer.index])
                if waited > bound:
                    self.find(
                        "not certified",
                        f"h{index}/{incarnation:x} died at {died:.1f} s; {observer.name} has been armed and well for "
                        f"{waited:.1f} s since (limit {bound:g} s)",
                    )
                    break

    def _watches(self, observer: Host, index: int, incarnation: int) -> PoolConfig | None:
        """The configuration under which the observer looks at the disks on which that life was armed; None if it knows no such host, or
        looks at other disks."""
        mine = observer.heart.config
        if observer.index == index or mine is None or mine.member_at(index) is None:
            return None
        return mine if mine.disks_digest == self._armed_under[index, incarnation].disks_digest else None

    def _judges(self, index: int, incarnation: int) -> int:
        """Who may say that this incarnation is dead: those whose word it says that it needs. Nobody, where its last words are left torn, or
        undone by one that landed later than q: whoever looks for the first time then cannot know that it was armed. Nor where another owner
        of the slot has left a higher number on a single disk: it may have been released before that one came."""
        used = self._armed_under[index, incarnation].disks
        stand = [said for name in used if (said := legible(self.disks[int(name)].blocks.get(index, b""))) is not None]
        told = [said for said in stand if said.statement.incarnation == incarnation and said.was_armed]
        later = [said for said in stand if self._lives.get((index, said.statement.incarnation), 0) > self._lives[index, incarnation]]
        foreign = max((copies.age(said) for said in stand if said.statement.host != self.hosts[index].name), default=(-1, -1))
        if 2 * len(told + later) <= len(used) or any(copies.age(said) < foreign for said in told):
            return 0
        return functools.reduce(operator.and_, (said.required for said in told), (1 << len(self.hosts)) - 1)

    def check_nobody_was_disturbed(self) -> None:
        """Under disturbances within the limits nobody fences, dies, is evicted, or stops VMs."""
        for name in sorted(self.fenced):
            self.find("fenced without cause", f"{name} fenced")
        for host in self.hosts:
            if not host.alive and host.name not in self.fenced:
                self.find("fenced without cause", f"{host.name} was reset")
            for slot, _ in sorted(self.evicted_by[host.index]):
                self.find("fenced without cause", f"{host.name} evicted h{slot}")
        for name in sorted(self.stopped_vms - self.fenced):
            self.find("fenced without cause", f"{name} stopped its VMs")

    def check_exactly_these_live(self, names: frozenset[str]) -> None:
        """After a clean partition exactly one side lives, undisturbed; the rest has been reset."""
        for host in self.hosts:
            lives = host.alive and host.heart.phase is Phase.ARMED and host.name not in self.fenced
            if lives != (host.name in names):
                state = "lives" if lives else f"does not ({host.heart.phase.name.lower()}: {host.heart.message})"
                self.find("wrong side", f"{host.name} {state}; by the rule {', '.join(sorted(names))} live")

    def check_everybody_is_armed(self) -> None:
        """After all faults have ended and the dead have been booted, the pool is whole again."""
        for host in self.hosts:
            if not (host.alive and host.heart.phase is Phase.ARMED):
                self.find("not whole again", f"{host.name} is {host.heart.phase.name.lower()}: {host.heart.message}")
