"""Hosts fail, VMs restart: one step of the game, with the rules that may run. Whoever is stuck is told with the pool.

*Following* keeps to a certificate, as its zones say. *The controller's rule* (`restart_targets`) looks at the survivors anew each time,
with the layout that the pool keeps, or with none. Nothing is chosen for a rule here: the order in which VMs restart is drawn.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, permutations
from random import Random

from quorate_core.layout import Layout
from quorate_planner import Certificate, Problem, follow, layout_of, restart_targets

from .pools import snapshot_of

TURNS = 2
"""The controller restarts the VMs of one failure in several turns and looks at the pool anew before each."""


class StuckError(AssertionError):
    """A VM of a failed host has no place although fewer hosts failed than was promised."""


@dataclass(frozen=True)
class Game:
    """A pool in the middle of an attack, with so many failures left of the promise. Without a certificate the controller's rule runs."""

    problem: Problem
    left: int
    certificate: Certificate | None = None
    layout: Layout | None = None

    @classmethod
    def following(cls, problem: Problem, certificate: Certificate) -> "Game":
        """The certificate's promise, kept by its own rule."""
        return cls(problem, certificate.failures, certificate)

    @classmethod
    def keeping(cls, problem: Problem, certificate: Certificate) -> "Game":
        """The certificate's promise, kept by the controller, which knows only the layout that was stored before the first failure."""
        return cls(problem, certificate.failures, layout=layout_of(problem, certificate))

    @property
    def living(self) -> list[str]:
        """Hosts that have not failed."""
        return [host.name for host in self.problem.hosts]

    def after(self, failed: Sequence[str], dice: Random) -> "Game":
        """The pool once these hosts failed, all at once, and their VMs run again. Raises `StuckError`."""
        gone = frozenset(failed)
        vms = tuple(
            vm._replace(host=None if vm.host in gone else vm.host, allowed=None if vm.allowed is None else vm.allowed - gone)
            for vm in self.problem.vms
        )
        hosts = tuple(host for host in self.problem.hosts if host.name not in gone)
        return replace(self, problem=replace(self.problem, hosts=hosts, vms=vms), left=self.left - len(gone)).restarted(dice)

    def restarted(self, dice: Random) -> "Game":
        """The same pool with everything placed that waits."""
        waiting = [vm for vm in self.problem.vms if vm.host is None]
        dice.shuffle(waiting)
        game = self
        if self.certificate is not None:
            targets, certificate = follow(self.certificate, self.living, waiting)
            return replace(game._placed(targets), certificate=certificate)
        half = -(-len(waiting) // TURNS) or 1
        for start in range(0, len(waiting), half):
            snapshot = replace(snapshot_of(game.problem), layout=self.layout)
            part = [snapshot.vm(vm.name) for vm in waiting[start : start + half]]
            game = game._placed(restart_targets(snapshot, [vm for vm in part if vm is not None]))
        return game

    def _placed(self, targets: dict[str, str | None]) -> "Game":
        stuck = sorted(name for name, host in targets.items() if host is None)
        if stuck:
            raise StuckError(
                f"{stuck[:3]} of {len(targets)} VMs have no place with {self.left} failures left of the promise: {self.problem}"
            )
        taken, paged = dict.fromkeys(self.living, 0), dict.fromkeys(self.living, 0)
        vms = []
        for vm in self.problem.vms:
            target = targets.get(vm.name)
            if target is not None:
                taken[target] += vm.size
                paged[target] += vm.hugepages
                if vm.allowed is not None and target not in vm.allowed:
                    raise StuckError(f"{vm} was sent to {target}")
            vms.append(vm if target is None else vm._replace(host=target))
        hosts = tuple(
            host._replace(free=host.free - taken[host.name], hugepages=host.hugepages - paged[host.name]) for host in self.problem.hosts
        )
        if any(host.free < 0 or host.hugepages < 0 for host in hosts):
            raise StuckError(f"more was sent to a host than it has free: {hosts}")
        moved = [vm for vm in vms if vm.apart and targets.get(vm.name) is not None]
        beside = [(vm, o) for vm in moved for o in vms if o.host == vm.host and o.name != vm.name and o.apart & vm.apart]
        if beside:
            raise StuckError(f"VMs that must not share a host do: {beside[0]}")
        return replace(self, problem=replace(self.problem, hosts=hosts, vms=tuple(vms)))


EVERYTHING_MOST = 3
"""Failures up to which every sequence is played; five hosts have 541 orders in which all of them may fail."""


def play_everything(game: Game, dice: Random) -> None:
    """Every sequence of failures within the promise, one by one and several at once; of a promise beyond `EVERYTHING_MOST` many of them."""
    if game.left > EVERYTHING_MOST:
        play_some(game, dice, rounds=12)
        return
    for together in range(1, min(game.left, len(game.living)) + 1):
        for failed in combinations(game.living, together):
            play_everything(game.after(failed, dice), dice)


def play_some(game: Game, dice: Random, rounds: int = 2) -> None:
    """The attacks below, a few of each kind."""
    for sequence in attacks(game.problem, game.left, dice, rounds):
        now = game
        for failed in sequence:
            now = now.after(failed, dice)
    hunt(game, dice)


def heaviest(problem: Problem) -> list[str]:
    """Hosts by what their failure costs: the memory they had free and the memory that must move. Worst first."""
    value = {host.name: host.free for host in problem.hosts}
    for vm in problem.vms:
        if vm.host is not None:
            value[vm.host] += vm.size
    return sorted(value, key=lambda name: (-value[name], name))


ALL_ORDERS_MOST = 4
"""A critical set of so many hosts fails in every order."""


def attacks(problem: Problem, failures: int, dice: Random, rounds: int) -> Iterator[list[tuple[str, ...]]]:
    """Sequences of failures that are likely to hurt: the critical set at once and in many or all orders, sets next to it, random ones."""
    worst = heaviest(problem)
    if not failures:
        return
    critical = worst[:failures]
    yield [tuple(critical)]
    orders = permutations(critical) if failures <= ALL_ORDERS_MOST else [critical, critical[::-1]]
    yield from ([(name,) for name in order] for order in orders)
    for turn in range(rounds):
        chosen = [critical, dice.sample(worst[: failures + 3], failures), dice.sample(worst, failures)][turn % 3]
        order = dice.sample(chosen, len(chosen))
        sequence = []
        while order:
            together = dice.choice([1, 1, 2, len(order)])
            sequence.append(tuple(order[:together]))
            order = order[together:]
        yield sequence


def hunt(game: Game, dice: Random) -> Game:
    """An adversary that watches: each time the host fails whose failure costs most as things are now."""
    while game.left > 0:
        game = game.after(heaviest(game.problem)[:1], dice)
    return game
