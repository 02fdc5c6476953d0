"""Does the plan still hold after a change? The old certificate first, then blocks moved between its zones, then new zones.

The steps cost about 0.1 ms, some milliseconds, and what the budget allows. Each answers yes only with a certificate for exactly
the problem asked about; the last one may end as "not proven in time", which counts as no.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from quorate_core.layout import Layout
from quorate_planner import bounds, listing, lists, sharp, tally
from quorate_planner.laid import layout_of
from quorate_planner.problem import Problem, ProblemVm
from quorate_planner.proof import Proof
from quorate_planner.sharp import Budget
from quorate_planner.whole import plain_certificate

SHIFTS = 24
"""So many moves of memory between zones are tried before new zones are asked for."""


class Answer(StrEnum):
    """Whether a number of failures is survived. NOT_PROVEN counts as no."""

    YES = "Yes"
    NO = "No"
    NOT_PROVEN = "NotProven"


@dataclass(frozen=True, slots=True)
class Judgement:
    """An answer; with YES the proof of it, where zones are the proof and not lists."""

    answer: Answer
    proof: Proof | None = None


def prove(problem: Problem, failures: int, layout: Layout | None = None, budget: Budget | None = None) -> Judgement:
    """Whether the problem survives so many failures: by the layout, by one moved a little, by plain zones, by new zones in the budget."""
    if layout is not None:
        kept = mended(Proof(problem, layout, failures))
        if kept.holds:
            return Judgement(Answer.YES, kept)
    counted = tally.count(problem)
    if problem.vms and bounds.volume_ceiling(counted) < failures:  # most that is refuted, and it costs little
        return Judgement(Answer.NO)
    fresh = plain(problem, failures, counted)
    if fresh is not None:
        return Judgement(Answer.YES, fresh)
    if bounds.refuted(counted, failures):
        return Judgement(Answer.NO)
    if (
        layout is not None
        and layout.lists
        and lists.certified(problem, listing.completed(problem, layout.lists, failures)) >= failures >= 0
    ):
        return Judgement(Answer.YES)
    return sought(problem, failures, budget, counted)


def sought(problem: Problem, failures: int, budget: Budget | None, counted: tally.Tally | None = None) -> Judgement:
    """New zones for so many failures, from a linear program and then whole numbers, within the budget.

    `counted`: quick bounds neither show nor refute that many, so they are not asked again.
    """
    if budget is None or budget.left_seconds() <= 0:
        return Judgement(Answer.NOT_PROVEN)
    if counted is None or counted.extras or not problem.vms or failures < 0:
        found = sharp.sharpen(Problem(problem.hosts, problem.vms, max(0, failures), problem.pool), budget, enough=failures)
        certificate = found.certificate
        refuted = found.plan.upper < failures or (failures >= 0 and found.plan.exact)
    else:
        certificate, refuted = sharp.sought(problem, counted, failures, budget)
    if certificate is not None and certificate.failures >= failures:
        if certificate.lists:
            return Judgement(Answer.YES)
        proof = Proof(problem, layout_of(problem, certificate), failures)
        if proof.holds:
            return Judgement(Answer.YES, proof)
    return Judgement(Answer.NO if refuted else Answer.NOT_PROVEN)


def plain(problem: Problem, failures: int, counted: tally.Tally | None = None) -> Proof | None:
    """A proof with all memory in one zone; None if there is none."""
    counted = counted or tally.count(problem)
    certificate = plain_certificate(problem, counted, failures)
    if certificate is None or certificate.failures < failures:
        return None
    proof = Proof(problem, layout_of(problem, certificate), failures)
    return proof if proof.holds else None


def start(proof: Proof, vm: ProblemVm, host: str) -> Proof | None:
    """The proof after the VM was started on the host, in whichever zone keeps the promise; None if none was found to."""
    if vm.size > proof.free[proof.index[host]]:
        return None
    for home in proof.homes(vm)[:3]:
        after = proof.started(vm, host, prefer=home)
        if after.holds:
            return after
    return None


def mended(proof: Proof, shifts: int = SHIFTS) -> Proof:
    """The same problem with memory moved to the zone that lacks it most, as long as that helps; it need not `hold` in the end."""
    if proof.unbound or not 0 <= proof.failures <= len(proof.names):
        return proof
    left = shifts
    while left > 0 and not proof.holds:
        worst = min(proof.margins)
        for other in _shifts(proof):
            left -= 1
            if min(other.margins) > worst or (min(other.margins) == worst and other.margins.count(worst) < proof.margins.count(worst)):
                proof = other
                break
            if left <= 0:
                return proof
        else:
            return proof
    return proof


def _shifts(proof: Proof) -> Iterator[Proof]:
    """Ways to give the zone that lacks most what it lacks, on the hosts whose own value is least: there it is all gain."""
    z = min(range(len(proof.margins)), key=lambda z: (proof.margins[z], z))
    failing = min(proof._conditions(z), key=lambda condition: condition.margin(proof.failures))
    values, block = failing.values, failing.block
    lacking = -(failing.margin(proof.failures) // block)
    worth = {i: values[proof.group[i]] for i in range(len(proof.names)) if i not in proof.closed[z]}
    donors = sorted((y for y in range(len(proof.margins)) if y != z and proof.margins[y] > 0), key=lambda y: (-proof.margins[y], y))
    unit = (proof.chains[z] or (1,))[0]
    for i in sorted(worth, key=lambda i: (worth[i], i)):
        for donor in (None, *donors):
            to_next = block - proof.net[z][i] % block
            have = proof.spare(i)
            if donor is not None:
                step = (proof.chains[donor] or (1,))[0]
                have += min(proof.net[donor][i], proof.margins[donor] // step * step)
            gain = min(to_next + (lacking - 1) * block, to_next + (have - to_next) // block * block) if have >= to_next else 0
            if gain <= 0:
                continue
            gain -= gain % unit
            net = {z: proof.net[z][i] + gain}
            if donor is not None and gain > proof.spare(i):
                step = (proof.chains[donor] or (1,))[0]
                net[donor] = proof.net[donor][i] - -(-(gain - proof.spare(i)) // step) * step
                if net[donor] < 0:
                    continue
            yield proof.shifted(i, net)


def best_layout(problem: Problem, candidates: Sequence[Layout]) -> Layout | None:
    """What a pool should keep: of the candidates and of all memory in one zone, that which shows most failures survived.

    Of equals the first, so that what is kept stays as it is. None if nothing shows even the waiting VMs sure of a place.
    """
    if not problem.vms:
        return None
    best, most = None, -1
    for layout in candidates:
        if layout.lists:
            short = lists.Moves(problem, layout.lists).limit < problem.wish  # a VM that is new, or may use other hosts now
            better = Layout(lists=listing.completed(problem, layout.lists, problem.wish)) if short else layout
            certified = lists.certified(problem, better.lists)
            if certified > most:
                best, most = layout if better.lists == layout.lists else better, certified
            continue
        for proof in _variants(Proof(problem, layout, problem.wish)):
            certified = proof.certified()
            if certified > most:
                best, most = proof.layout(), certified
            if most >= problem.wish:
                break
    counted = tally.count(problem)
    ceiling = bounds.ceiling(counted)
    if ceiling is not None and ceiling.most > most:
        certificate = plain_certificate(problem, counted)
        if certificate is not None and certificate.failures > most:
            return layout_of(problem, certificate)
    return best


def _variants(proof: Proof) -> Iterator[Proof]:
    """The proof, the same with all free memory in its zones, and the same with memory moved between them."""
    yield proof
    full = filled(proof)
    yield full
    yield mended(full)


def filled(proof: Proof) -> Proof:
    """The same problem with the memory that no zone has set aside given to them: that never makes a zone survive less."""
    margins = list(proof.margins)
    for i in range(len(proof.names)):
        net: dict[int, int] = {}
        spare = proof.spare(i)
        for z in sorted((z for z in range(len(margins)) if proof.may_fill(z, i)), key=lambda z: (margins[z], z)):
            unit = (proof.chains[z] or (1,))[0]
            if spare >= unit:
                net[z] = proof.net[z][i] + spare // unit * unit
                margins[z] += spare // unit * unit
                spare %= unit
        if net:
            proof = proof.shifted(i, net)
    return proof
