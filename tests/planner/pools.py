"""Pools for the planner's tests: hypothesis strategies, and the bare problem as a snapshot."""

from hypothesis import strategies as st

from quorate_core.facts import Host, Pool, Protection, Snapshot, Vm
from quorate_planner import Problem, ProblemHost, ProblemVm

SIZES = st.sampled_from([1, 2, 3, 4, 5, 6, 8, 12])


@st.composite
def problems(draw: st.DrawFn, hosts: int = 5, vms: int = 8, limited: bool = True, waiting: bool = True) -> Problem:
    """Tiny pools with memory near what the VMs need, where the answer is neither always none nor always all."""
    names = [f"h{i}" for i in range(draw(st.integers(1, hosts)))]
    made = []
    for i in range(draw(st.integers(0, vms))):
        home = draw(st.sampled_from([*names, None] if waiting and i % 3 == 0 else names))
        allowed = None
        if limited and draw(st.integers(0, 5)) == 0:
            allowed = frozenset(draw(st.lists(st.sampled_from(names), min_size=1)))
        made.append(ProblemVm(f"v{i}", draw(SIZES), home, allowed))
    plenty = draw(st.sampled_from([4, 12, 24, 40]))
    return Problem(tuple(ProblemHost(name, draw(st.integers(0, plenty))) for name in names), tuple(made))


def snapshot_of(problem: Problem) -> Snapshot:
    """The same pool with launcher pods: what VMs use is used, what is free is free."""
    used = {host.name: sum(vm.size for vm in problem.vms if vm.host == host.name) for host in problem.hosts}
    paged = {host.name: sum(vm.hugepages for vm in problem.vms if vm.host == host.name) for host in problem.hosts}
    hosts = tuple(
        Host(
            host.name,
            host.free + used[host.name],
            used[host.name],
            allocatable_hugepages_bytes=host.hugepages + paged[host.name],
            used_hugepages_bytes=paged[host.name],
        )
        for host in problem.hosts
    )
    vms = tuple(
        Vm(vm.name, vm.size, vm.host, Protection.PROTECTED, vm.priority, allowed=vm.allowed, hugepages_bytes=vm.hugepages, apart=vm.apart)
        for vm in problem.vms
    )
    return Snapshot(Pool(problem.pool, problem.wish), hosts, vms)
