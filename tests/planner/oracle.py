"""The truth about tiny pools, by playing the whole game: every failure, at once or one by one, against every placement."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations

from quorate_planner import Problem

State = tuple[tuple[tuple[str, int, int], ...], tuple[tuple[str, str | None], ...]]
"""Living hosts with free memory and hugepages; VMs with the host they run on."""


def tolerates(problem: Problem, failures: int) -> bool:
    """Whether some policy places every VM at every step of every sequence of up to so many failures. Hosts of one domain fail together."""
    sizes = {vm.name: vm.size for vm in problem.vms}
    pages = {vm.name: vm.hugepages for vm in problem.vms}
    allowed = {vm.name: vm.allowed for vm in problem.vms}
    apart = {vm.name: vm.apart for vm in problem.vms}
    group = {host.name: host.domain or f"host {host.name}" for host in problem.hosts}

    def placements(state: State) -> Iterator[State]:
        free, where = state
        waiting = next((name for name, host in where if host is None), None)
        if waiting is None:
            yield state
            return
        tried = set()
        for host, room, paged in free:
            may = allowed[waiting]
            if room < sizes[waiting] or paged < pages[waiting] or (may is not None and host not in may):
                continue
            if any(apart[waiting] & apart[n] for n, h in where if h == host):
                continue
            twin = (room, paged, group[host], tuple(sorted((sizes[n], pages[n], *sorted(apart[n])) for n, h in where if h == host)))
            if not any(allowed.values()) and twin in tried:
                continue
            tried.add(twin)
            yield from placements(
                (
                    tuple((h, r - sizes[waiting], p - pages[waiting]) if h == host else (h, r, p) for h, r, p in free),
                    tuple((n, host) if n == waiting else (n, h) for n, h in where),
                )
            )

    @cache
    def survives(state: State, left: int) -> bool:
        return any(
            all(
                survives(_after(placed, tuple(host for host, _, _ in placed[0] if group[host] in failed)), left - together)
                for together in range(1, left + 1)
                for failed in combinations(sorted({group[host] for host, _, _ in placed[0]}), together)
            )
            for placed in placements(state)
        )

    start: State = (
        tuple((host.name, host.free, host.hugepages) for host in problem.hosts),
        tuple((vm.name, vm.host) for vm in sorted(problem.vms, key=lambda vm: -vm.size)),
    )
    return survives(start, failures)


def _after(state: State, failed: tuple[str, ...]) -> State:
    free, where = state
    return tuple(host for host in free if host[0] not in failed), tuple((n, None if h in failed else h) for n, h in where)
