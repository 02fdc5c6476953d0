"""One decision at a time, many requests at once: what keeps two replicas from admitting two changes that do not go together.

Each replica serialises its own requests: those that arrive while a batch is decided form the next. A batch reads the ledgers, then
the cluster (see store.py for why in this order), decides its requests one after another with what the earlier ones reserved, and
writes each changed ledger once, by compare-and-swap. When another replica (or the reaper) was first, nothing of that pool's batch
has happened: it is decided again from fresh reads. A request is answered only after its reservations are in the ledger.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from quorate_controller import kube
from quorate_controller.admission import decisions
from quorate_controller.admission.assess import Assessment, Questions
from quorate_controller.admission.decisions import Allow, Refuse, Verdict
from quorate_controller.admission.proofs import Proofs
from quorate_controller.admission.requests import Request
from quorate_controller.admission.store import Held, Ledgers
from quorate_controller.observe import BadInput
from quorate_core.facts import Snapshot
from quorate_core.ledger import Ledger, Reservation, reserve

log = logging.getLogger(__name__)


class Scene(Protocol):
    """A fresh read of the cluster."""

    @property
    def snapshots(self) -> Mapping[str, Snapshot]:
        """Every pool, without reservations."""

    def assess(self, request: Request) -> Assessment:
        """What the request asks of the plan."""


class Undecided(Exception):
    """Nothing could be decided: the cluster cannot be read now. The message says why."""


@dataclass(eq=False)
class _Waiting:
    request: Request
    answer: "asyncio.Future[Verdict]"


Near = Callable[[Mapping[str, Ledger], Sequence[Request]], Awaitable[Scene | None]]
"""The cluster from memory, at least as new as the ledgers demand; None where it must be read."""


class Batch:
    """The queue of one replica. `look` reads the cluster, fresh; `near` may spare that."""

    def __init__(
        self, look: Callable[[], Awaitable[Scene]], ledgers: Ledgers, proofs: Proofs | None = None, near: Near | None = None
    ) -> None:
        self._look = look
        self._near = near
        self._ledgers = ledgers
        self._proofs = proofs or Proofs()
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def submit(self, request: Request) -> Verdict:
        """The answer to one request. Raises `Undecided`; cancelling it takes the request out of batches that are still to come."""
        waiting = _Waiting(request, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def run(self) -> None:
        """Decide batch after batch, until cancelled."""
        while True:
            waiting = [await self._queue.get()]
            while not self._queue.empty():
                waiting.append(self._queue.get_nowait())
            try:
                await self._settle(waiting)
            except (kube.KubeError, BadInput) as error:
                log.warning("%d admission requests not decided: %s", len(waiting), error)
                _fail(waiting, Undecided(str(error)))
            except Exception as error:  # the loop must outlive a request that it cannot digest
                log.exception("%d admission requests not decided", len(waiting))
                _fail(waiting, Undecided(f"internal error: {error!r}"))

    async def _settle(self, waiting: Sequence[_Waiting]) -> None:
        rounds = 0
        while waiting := [w for w in waiting if not w.answer.done()]:
            rounds += 1
            held = await self._ledgers.read()
            ledgers = {pool: h.ledger for pool, h in held.items()}
            scene = await self._near(ledgers, [w.request for w in waiting]) if self._near is not None else None
            scene = scene or await self._look()
            # In a thread: the event loop also answers pods and, in the leader, renews the lease.
            settled = await asyncio.to_thread(settle, [w.request for w in waiting], scene, ledgers, self._proofs)
            lost = set()
            for pool, ledger in settled.ledgers.items():
                was = held.get(pool, Held())
                if ledger == was.ledger:
                    continue
                try:
                    await self._ledgers.write(pool, ledger, was.version)
                except kube.Conflict:
                    lost.add(pool)
            for w, (pool_of_verdict, verdict) in zip(waiting, settled.verdicts, strict=True):
                # NB: a refusal of a pool whose write was lost may rest on a reservation that never happened: it is decided again too.
                if pool_of_verdict not in lost and not w.answer.done():
                    w.answer.set_result(verdict)
                    _tell(w.request, verdict)
            if lost:
                log.info("ledger of %s changed meanwhile (round %d): deciding again", ", ".join(sorted(lost)), rounds)


@dataclass(frozen=True, slots=True)
class Settled:
    """The answers, each with the pool whose ledger it rests on (None: on none), and the ledgers that follow from them."""

    verdicts: tuple[tuple[str | None, Verdict], ...]
    ledgers: Mapping[str, Ledger]


def settle(requests: Sequence[Request], scene: Scene, ledgers: Mapping[str, Ledger], proofs: Proofs | None = None) -> Settled:
    """Decide requests one after another, each knowing what the earlier ones reserved. A dry run reserves nothing."""
    proofs = proofs or Proofs()
    proofs.begin()
    after = dict(ledgers)
    verdicts: list[tuple[str | None, Verdict]] = []
    for request in requests:
        try:
            assessment = scene.assess(request)
        except BadInput as error:
            assessment = Allow((f"Quorate: {error}",)) if request.override else Refuse(str(error))
        if not isinstance(assessment, Questions):
            verdicts.append((None, assessment))
            continue
        pool, verdict = _first_allowed(assessment, scene.snapshots, after, proofs)
        if isinstance(verdict, Allow):
            if pool is not None and not request.dry_run:
                for reservation in verdict.reservations:
                    after[pool] = after.get(pool, Ledger()).add(reservation)
            verdict = Allow((*assessment.warnings, *verdict.warnings), verdict.reservations)
        verdicts.append((pool, verdict))
    return Settled(tuple(verdicts), after)


def _first_allowed(
    questions: Questions, snapshots: Mapping[str, Snapshot], ledgers: Mapping[str, Ledger], proofs: Proofs
) -> tuple[str | None, Verdict]:
    """The first pool that takes the change; if none does, the first refusal. No question, no objection."""
    refused: tuple[str, Verdict] | None = None
    for pool, asked in questions.alternatives:
        verdict = _all(asked, snapshots[pool], ledgers.get(pool, Ledger()), proofs)
        if isinstance(verdict, Allow):
            return pool, verdict
        refused = refused or (pool, verdict)
    return refused or (None, Allow())


def _all(asked: Sequence[decisions.Asked], snapshot: Snapshot, ledger: Ledger, proofs: Proofs) -> Verdict:
    """Every change of one request, or none of them."""
    warnings: list[str] = []
    made: list[Reservation] = []
    for one in asked:
        verdict = decisions.decide(one, reserve(snapshot, ledger.entries), proofs)
        if isinstance(verdict, Refuse):
            return verdict
        warnings += verdict.warnings
        for reservation in verdict.reservations:
            ledger = ledger.add(reservation)
            made.append(reservation)
    return Allow(tuple(dict.fromkeys(warnings)), tuple(made))


def _tell(request: Request, verdict: Verdict) -> None:
    what = f"{request.operation} {request.resource} {request.key.strip('/')} by {request.user}{' (dry run)' if request.dry_run else ''}"
    if isinstance(verdict, Refuse):
        log.info("refused %s: %s", what, verdict.message)
    elif verdict.reservations:
        log.info("admitted %s: reserved %s", what, "; ".join(f"{r.kind} {r.subject} on {r.host or '-'}" for r in verdict.reservations))


def _fail(waiting: Sequence[_Waiting], error: Undecided) -> None:
    for w in waiting:
        if not w.answer.done():
            w.answer.set_exception(error)
