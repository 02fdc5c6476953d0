"""The truth about tiny pools, by playing the whole game: every failure, at once or one by one, against every placement."""

from collections.abc import Iterator
from functools import cache
from itertools import combinations

from quorate_planner import Problem

State = tuple[tuple[tuple[str, int], ...], tuple[tuple[str, str | None], ...]]
"""Living hosts with free memory; VMs with the host they run on."""


def tolerates(problem: Problem, failures: int) -> bool:
    """Whether some policy places every VM at every step of every sequence of up to so many failures; domains are not looked at."""
    sizes = {vm.name: vm.size for vm in problem.vms}
    allowed = {vm.name: vm.allowed for vm in problem.vms}

    def placements(state: State) -> Iterator[State]:
        free, where = state
        waiting = next((name for name, host in where if host is None), None)
        if waiting is None:
            yield state
            return
        tried = set()
        for host, room in free:
            may = allowed[waiting]
            if room < sizes[waiting] or (may is not None and host not in may):
                continue
            twin = (room, tuple(sorted(sizes[n] for n, h in where if h == host)))
            if not any(allowed.values()) and twin in tried:
                continue
            tried.add(twin)
            yield from placements(
                (
                    tuple((h, r - sizes[waiting]) if h == host else (h, r) for h, r in free),
                    tuple((n, host) if n == waiting else (n, h) for n, h in where),
                )
            )

    @cache
    def survives(state: State, left: int) -> bool:
        return any(
            all(
                survives(_after(placed, failed), left - len(failed))
                for together in range(1, min(left, len(placed[0])) + 1)
                for failed in combinations([h for h, _ in placed[0]], together)
            )
            for placed in placements(state)
        )

    start: State = (
        tuple((host.name, host.free) for host in problem.hosts),
        tuple((vm.name, vm.host) for vm in sorted(problem.vms, key=lambda vm: -vm.size)),
    )
    return survives(start, failures)


def _after(state: State, failed: tuple[str, ...]) -> State:
    free, where = state
    return tuple((h, r) for h, r in free if h not in failed), tuple((n, None if h in failed else h) for n, h in where)
