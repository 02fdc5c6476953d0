"""A pool in memory with a ledger that two replicas share: small, typed, and as unordered as a real one.

Every read and write first lets other tasks run for a random number of steps, so that a seed is a schedule.
"""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate_controller import kube
from quorate_controller.admission.assess import Assessment, Questions
from quorate_controller.admission.decisions import Allow, Asked, Start, Verdict
from quorate_controller.admission.requests import Request
from quorate_controller.admission.store import Held
from quorate_core import ledger
from quorate_core.facts import Snapshot, Vm
from quorate_core.ledger import Ledger

POOL = "p"


def request(name: str, *, dry_run: bool = False, uid: str | None = None) -> Request:
    """A request to start VM d/NAME."""
    return Request(
        uid or f"uid-{name}", "virtualmachines", "", "UPDATE", "d", name, "somebody", frozenset(), dry_run, {"metadata": {"name": name}}, {}
    )


@dataclass(frozen=True)
class ModelScene:
    """What one fresh read found."""

    snapshots: Mapping[str, Snapshot]

    def assess(self, request: Request) -> Assessment:
        """Every request is a start of a VM that the pool knows."""
        vm = self.snapshots[POOL].vm(request.key)
        assert vm is not None
        start = Start(replace(vm, host=None, should_run=True))
        return Questions(((POOL, (Asked(request.uid, f"VirtualMachine {vm.key}", start),)),))


@dataclass
class Model:
    """Cluster and ledger. `cluster_before_ledger` plants the bug that the order of reading prevents."""

    snapshot: Snapshot
    chance: random.Random
    cluster_before_ledger: bool = False
    held: Held = field(default_factory=Held)
    ages: ledger.Ages = field(default_factory=ledger.Ages)
    conflicts: int = 0
    _early: "dict[asyncio.Task[None] | None, Snapshot]" = field(default_factory=dict)

    async def steps(self, most: int = 6) -> None:
        """Let the others run."""
        for _ in range(self.chance.randrange(most)):
            await asyncio.sleep(0)

    async def look(self) -> ModelScene:
        """A fresh read of the cluster."""
        await self.steps()
        seen = self._early[asyncio.current_task()] if self.cluster_before_ledger else self.snapshot
        await self.steps()
        return ModelScene({POOL: seen})

    async def read(self) -> Mapping[str, Held]:
        """A fresh read of the ledger."""
        self._early[asyncio.current_task()] = self.snapshot
        await self.steps(60)
        return {POOL: self.held} if self.held.version is not None else {}

    async def write(self, pool: str, ledger: Ledger, version: str | None) -> None:
        """Compare-and-swap."""
        await self.steps()
        if version != self.held.version:
            self.conflicts += 1
            raise kube.Conflict("changed meanwhile")
        self.held = Held(ledger, str(int(version or 0) + 1))
        await self.steps()

    async def come_true(self, name: str, verdict: Verdict) -> None:
        """What happens after an admitted request: the VM is stored as running, then its launcher pod is bound where it is kept."""
        if not isinstance(verdict, Allow):
            return
        await self.steps()
        self._change(f"d/{name}", should_run=True)
        await self.steps()
        host = verdict.reservations[0].host
        size = self._change(f"d/{name}", host=host).size_bytes
        hosts = tuple(replace(h, used_bytes=h.used_bytes + size) if h.name == host else h for h in self.snapshot.hosts)
        self.snapshot = replace(self.snapshot, hosts=hosts)

    def _change(self, key: str, **more: object) -> Vm:
        old = self.snapshot.vm(key)
        assert old is not None
        new = replace(old, **more)  # type: ignore[arg-type]
        self.snapshot = replace(self.snapshot, vms=tuple(new if v is old else v for v in self.snapshot.vms))
        return new

    async def reap(self, seconds: float) -> None:
        """One turn of the reaper."""
        seen = self.snapshot
        held = self.held
        reaping = ledger.reap(self.ages, held.ledger, seen, seconds)
        self.ages = reaping.ages
        if reaping.gone:
            try:
                await self.write(POOL, held.ledger.without(reaping.gone), held.version)
            except kube.Conflict:
                return
