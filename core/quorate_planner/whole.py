"""The certificate with all memory in one zone: what needs no search, and what a search has to beat.

Where VMs need hugepages or are kept apart, zones are set aside for them first and the rest is one zone.
"""

from quorate_planner import bounds, extras, tally, zone
from quorate_planner.certificate import Certificate, Zone
from quorate_planner.problem import Problem


def plain_certificate(problem: Problem, counted: tally.Tally, enough: int | None = None) -> Certificate | None:
    """The best certificate with all memory in one zone, or the first that covers `enough`; None if none covers even the waiting VMs."""
    if counted.extras:
        return _beside(problem, enough)
    chain, by_zone = zone.best(counted, enough=enough)  # nothing where VMs may use only some hosts: those an any zone can hold
    free = {host.name: host.free for host in problem.hosts}
    everyone = {vm.name: 0 for vm in problem.vms}
    if enough is None or by_zone < enough:
        anyhow = bounds.any_fit_floor(counted)
        if anyhow > by_zone:
            return Certificate(anyhow, (Zone(free, None),), everyone) if anyhow >= 0 else None
    if by_zone < 0:
        return None
    return Certificate(by_zone, (Zone({name: amount - amount % chain[0] for name, amount in free.items()}, chain),), everyone)


def _beside(problem: Problem, enough: int | None) -> Certificate | None:
    """The same with zones set aside for VMs with hugepages or kept apart: for `enough`, or for the wish or the most below it."""
    most = min(problem.wish if enough is None else enough, len(problem.hosts))
    for failures in range(most, -1 if enough is None else max(-1, most - 1), -1):
        aside = extras.set_aside(problem, failures)
        if aside is None:
            continue
        rest = plain_certificate(aside.rest, tally.count(aside.rest), failures) if aside.rest.vms else Certificate(failures, (), {})
        if rest is not None and rest.failures >= failures:
            return aside.beside(rest, failures)
    return None
