"""A simulated pool: hosts, heartbeat disks, network, and the API that carries its configuration. The hosts run the very `step` functions of
the agent."""

from dataclasses import replace

from quorate_core.pool import Member, PoolConfig
from quorate_core.statement import Phase, Statement
from quorate_core.timing import WATCHDOG_GRANULARITY_SECONDS, Timing

from .disks import POOL_ID, SharedDisk
from .engine import Engine
from .host import Host
from .invariants import Monitor
from .network import Network

TIMING = Timing(6, 2)
_API_SECONDS = (0.1, 2.0)


class World:
    """The pool. `now` is real time in seconds since power on."""

    def __init__(self, count: int, seed: int, *, disks: int = 1, weights: dict[int, int] | None = None, timing: Timing = TIMING) -> None:
        self.engine = Engine(seed)
        weights = weights or {}
        members = tuple(Member(i, f"h{i}", weight=weights.get(i, 0)) for i in range(count))
        self.config = PoolConfig(POOL_ID, members, timing, disks=tuple(map(str, range(disks))))
        self.disks = [SharedDisk() for _ in range(disks)]
        self.network = Network(self.engine, count, self._deliver)
        self.monitor = Monitor(self.engine, count)
        self.api_away: dict[int, int] = dict.fromkeys(range(count), 0)
        self._chance = self.engine.chance("api")
        self.hosts = [Host(self, index, WATCHDOG_GRANULARITY_SECONDS) for index in range(count)]
        self.twins: list[Host] = []
        self.monitor.hosts, self.monitor.disks = self.hosts, self.disks
        self.monitor.timing = timing
        for host in self.hosts:
            host.config = self.config
            host.boot()

    @property
    def now(self) -> float:
        """Real time."""
        return self.engine.now

    def _deliver(self, index: int, said: Statement) -> None:
        self.monitor.sign(said.slot)
        self.hosts[index].hear(said)
        for twin in self.twins:
            if twin.index == index:
                twin.hear(said)

    def add_twin(self, index: int) -> Host:
        """Another machine with the name and the slot of a host, by mistake or as a clone. It boots now."""
        twin = Host(self, index, WATCHDOG_GRANULARITY_SECONDS, twin=True)
        twin.config = self.config
        self.twins.append(twin)
        twin.boot()
        return twin

    def host(self, name: str) -> Host:
        """The host of that name."""
        return next(h for h in self.hosts if h.name == name)

    def named(self, who: str | list[str]) -> list[Host]:
        """The hosts of these names; "all" is everybody."""
        if who == "all":
            return list(self.hosts)
        return [self.host(name) for name in ([who] if isinstance(who, str) else who)]

    def reach(self, number: int) -> None:
        """There are disks up to that number, and every host has a way to each. On a new one nothing was ever written."""
        while len(self.disks) <= number:
            self.disks.append(SharedDisk())
            for host in self.hosts:
                host.reach(self.disks[-1])

    # configuration

    def configure(self, config: PoolConfig) -> None:
        """The pool's configuration changes; it reaches each host when the API does."""
        self.config = config
        for host in self.hosts:
            self.engine.after(self._chance.uniform(*_API_SECONDS), self._bring, host)

    def _bring(self, host: Host) -> None:
        if not self.api_away[host.index] and host.config != self.config:
            self.monitor.touch(host.index)
            host.configure(self.config)

    def use_disks(self, numbers: list[int]) -> None:
        """The pool's heartbeat disks change to these, another time if they were used before; a number that is new is a disk on which
        nothing was ever written."""
        self.reach(max(numbers))
        names = tuple(map(str, numbers))
        changed = names != self.config.disks
        self.configure(replace(self.config, disks=names, disks_generation=self.config.disks_generation + changed))

    def change_membership(self, index: int, *, member: bool) -> None:
        """A host leaves the pool's configuration, or comes back into it."""
        others = tuple(m for m in self.config.members if m.slot != index)
        back = (Member(index, f"h{index}"),) if member else ()
        self.configure(replace(self.config, members=tuple(sorted((*others, *back), key=lambda m: m.slot))))

    def api_leaves(self, index: int) -> None:
        """This host cannot reach the API."""
        self.api_away[index] += 1

    def api_returns(self, index: int) -> None:
        """It can again."""
        self.api_away[index] -= 1
        self._bring(self.hosts[index])

    def change_member(self, index: int, **changes: object) -> None:
        """A member is excluded, or gets another weight."""
        members = tuple(replace(m, **changes) if m.slot == index else m for m in self.config.members)  # type: ignore[arg-type]
        self.configure(replace(self.config, members=members))

    # questions

    def armed(self, *hosts: Host) -> bool:
        """Whether these hosts (all, if none is named) are armed and have published it."""
        return all(h.alive and h.heart.phase is Phase.ARMED and h.heart.confirmed for h in hosts or self.hosts)

    def certified_by(self, victim: Host, incarnation: int) -> list[Host]:
        """Who has certified it."""
        return [h for h in self.hosts if (victim.index, incarnation) in self.monitor.certified_by[h.index]]

    def settled(self) -> bool:
        """Whether nothing is left to be decided: all that live are armed, and have certified all that were armed and died, or evicted."""
        living = [h for h in self.hosts if h.alive]
        if any(h.heart.phase is not Phase.ARMED or h.heart.intent or h.heart.storageless for h in living):
            return False
        dead = [(index, incarnation) for index, incarnation, _ in self.monitor.deaths]
        known = [(h, (r.slot, r.incarnation)) for h in living for r in h.heart.evictions] + [(h, one) for h in living for one in dead]
        return all(one in self.monitor.certified_by[h.index] for h, one in known)
