"""Where the VMs of failed hosts can go now: the survivors' memory, less what this recovery has given away already. Pure."""

from collections.abc import Set
from dataclasses import replace

from quorate_core.facts import Host, HostPhase, Snapshot, Vm
from quorate_core.failover_facts import Choose, Restart


class Places:
    """The places of one step. `send` counts a VM as on its way, because the snapshot does not show it before its pod is bound."""

    def __init__(self, snapshot: Snapshot, dead: Set[str], choose: Choose) -> None:
        self._snapshot = snapshot
        self._dead = dead
        self._choose = choose
        self._vms = {vm.key: vm for vm in snapshot.vms}
        self._taken: dict[str, tuple[int, int]] = {}
        self._sent: dict[str, str] = {}

    def send(self, restart: Restart, host: str) -> None:
        """The VM goes there: its memory is given away."""
        size, hugepages = self._taken.get(host, (0, 0))
        vm = self._vms.get(restart.vm)
        self._taken[host] = size + restart.size_bytes, hugepages + (vm.hugepages_bytes if vm is not None else 0)
        self._sent[restart.vm] = host

    def target(self, restart: Restart) -> str | None:
        """The host chosen before, else where the planner's rule says now; None where it fits nowhere.

        A planned host that merely has room is not enough: after a second failure, or a start that nobody planned for, only the rule
        knows which room may be taken without leaving another VM stuck. So the rule is asked, and told what was planned.
        """
        vm, survivors = self._as_vm(restart), self._survivors()
        host = next((h for h in survivors if h.name == restart.host), None)
        now = replace(self._snapshot, hosts=survivors, vms=self._present())
        if host is not None and _fits(vm, host) and now.beside(vm, host.name) is None:
            return host.name
        planned = {} if restart.planned_host is None else {vm.key: restart.planned_host}
        return self._choose(now, [vm], planned).get(vm.key)

    def another(self, restart: Restart) -> str | None:
        """One of the hosts with room, by turns, for when the scheduler has refused what the rule says: it counts CPU, the plan does not."""
        vm = self._as_vm(restart)
        now = replace(self._snapshot, vms=self._present())
        fitting = [h for h in self._survivors() if _fits(vm, h) and now.beside(vm, h.name) is None]
        fitting.sort(key=lambda host: (-host.free_bytes, host.name))
        return fitting[restart.attempts % len(fitting)].name if fitting else None

    def soon(self, restart: Restart) -> str:
        """A live host with enough memory that takes no VMs just now, and why; empty if there is none."""
        vm = self._as_vm(restart)
        for host in self._survivors():
            room = replace(host, accepts_vms=True).has_room_for(vm)
            if host.phase is HostPhase.LIVE and not host.accepts_vms and room and vm.may_run_on(host.name):
                return f"{host.name} takes VMs again ({host.why_not or 'it takes none now'})"
        return ""

    def why_none(self, restart: Restart) -> str:
        """Why it fits nowhere, with numbers."""
        vm, hosts = self._as_vm(restart), self._survivors()
        now = replace(self._snapshot, vms=self._present())
        beside = [now.beside(vm, h.name) for h in hosts if _fits(vm, h)]
        others = [other for other in beside if other is not None]
        if beside and len(others) == len(beside):
            return f"each host with room for it runs a VM that it must not share a host with ({others[0].key} on {others[0].host})"
        most = max((h.free_bytes for h in hosts if vm.may_run_on(h.name)), default=None)
        if most is None:
            why = "; ".join(vm.not_agile) or "none of the surviving hosts may run it"
            return f"no host may run it: {why}"
        pages = f" and {_gib(vm.hugepages_bytes)} of hugepages" if vm.hugepages_bytes else ""
        free = f"the most free on one host is {_gib(most)}"
        if pages:
            free += f" and {_gib(max(h.free_hugepages_bytes for h in hosts if vm.may_run_on(h.name)))}"
        return f"no host has {_gib(vm.size_bytes)}{pages} free for it ({free}); it starts when memory is free"

    def _present(self) -> tuple[Vm, ...]:
        """Every VM where it is, or where it was sent; nowhere if that host is dead."""
        present = ((v, self._sent.get(v.key, v.host)) for v in self._snapshot.vms)
        return tuple(replace(v, host=None if host in self._dead else host) for v, host in present)

    def _survivors(self) -> tuple[Host, ...]:
        living = [h for h in self._snapshot.hosts if h.name not in self._dead]
        taken = ((h, *self._taken.get(h.name, (0, 0))) for h in living)
        return tuple(
            replace(h, used_bytes=h.used_bytes + size, used_hugepages_bytes=h.used_hugepages_bytes + hugepages)
            for h, size, hugepages in taken
        )

    def _as_vm(self, restart: Restart) -> Vm:
        """The VM as it waits for its place; as it was recorded if the snapshot does not have it."""
        vm = self._vms.get(restart.vm)
        if vm is None:
            return Vm(key=restart.vm, size_bytes=restart.size_bytes, protection=restart.protection, priority=restart.priority)
        return replace(vm, host=None, should_run=True, size_bytes=max(vm.size_bytes, restart.size_bytes))


def _fits(vm: Vm, host: Host) -> bool:
    return host.accepts_vms and vm.may_run_on(host.name) and host.has_room_for(vm)


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 2**30:.2f} GiB"
