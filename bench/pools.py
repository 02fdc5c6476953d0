"""Pools from a seed: the same arguments give the same pool, on every machine. Shared by the bench and the planner's tests."""

from collections.abc import Callable
from random import Random

from quorate_planner import Problem, ProblemHost, ProblemVm

MIB = 1 << 20
GIB = 1 << 30

GUESTS_GIB = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96)
WEIGHTS = (8, 16, 24, 20, 8, 9, 5, 5, 3, 1.5, 0.5)
"""Guest memory of the public problems, and how often each occurs there."""

HOST_WEIGHTS = (1.0, 1.0, 1.5, 2.0)
"""Hosts of three generations: their memory relative to the smallest."""

Sizes = Callable[[Random], int]
"""Draws the size of one VM in bytes."""


def requested(guest_gib: int) -> int:
    """What the launcher pod of such a guest requests in bytes: guest memory, and overhead as in the public problems."""
    return guest_gib * GIB + (4 + 8 * guest_gib) * MIB


def classes(dice: Random) -> int:
    """Sizes as people choose them: a few classes, small ones most often."""
    return requested(dice.choices(GUESTS_GIB, WEIGHTS)[0])


def without_classes(different: int) -> Sizes:
    """So many different sizes from 1 to 64 GiB, none a multiple of another."""
    known = [GIB + (63 * GIB * i) // different + 7919 * i for i in range(different)]
    return lambda dice: dice.choice(known)


def pool(
    hosts: int, vms: int, load_percent: int, seed: int, *, sizes: Sizes = classes, limited_percent: int = 0, uneven: bool = False
) -> Problem:
    """A pool whose hosts are filled to `load_percent` of their memory, give or take one VM each.

    `limited_percent` of the VMs may use only a random half of the hosts (and always their own). `uneven` hosts all differ in memory.
    """
    dice = Random(f"{hosts}/{vms}/{load_percent}/{seed}")
    names = [f"host-{i:03}" for i in range(hosts)]
    drawn = sorted((sizes(dice) for _ in range(vms)), reverse=True)
    weight = [dice.uniform(1.0, 2.0) if uneven else dice.choice(HOST_WEIGHTS) for _ in names]
    memory = [int(sum(drawn) * 100 / load_percent * w / sum(weight)) for w in weight]
    free = list(memory)
    made = []
    for number, size in enumerate(drawn):
        # Somewhere at random, by free memory: neither balanced nor packed, as pools are that have lived for a while.
        home = max(dice.sample(range(hosts), min(2, hosts)), key=lambda i: free[i])
        if free[home] < size:
            home = max(range(hosts), key=lambda i: free[i])
        if free[home] < size:
            continue
        free[home] -= size
        allowed = None
        if dice.random() * 100 < limited_percent:
            allowed = frozenset({names[home], *dice.sample(names, hosts // 2)})
        made.append(ProblemVm(f"ns/vm-{number:05}", size, names[home], allowed))
    return Problem(tuple(ProblemHost(name, left) for name, left in zip(names, free, strict=True)), tuple(made), pool=f"seed {seed}")
