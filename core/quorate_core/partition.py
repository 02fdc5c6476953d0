"""Which side lives when hosts with working storage do not all hear each other. Pure; read off the slots, so that all sides read the same.

First an intent is published: the set that is to live. Only when everybody in that set publishes the same one, and nobody publishes
another one with itself in it, are the rest evicted. The record is the safe part, whoever writes it: two sides that evict each other both
die, and no VM runs twice. The intent is the kind part: it keeps one side alive.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quorate_core import clique
from quorate_core.clique import members
from quorate_core.slot import Slot


@dataclass(frozen=True, slots=True)
class Choice:
    """What this host proposes (0: nothing has to be decided) and whom it evicts now, by slot. `waiting` says for what."""

    intent: int = 0
    evict: tuple[int, ...] = ()
    waiting: str = ""


def choose(me: int, seated: Mapping[int, Slot], published: int, stirred: int) -> Choice:
    """What follows from the slots of the armed hosts of one read, this host's own as it was written among them.

    `published` is the intent that this host's slot has carried for at least one full cycle, `stirred` the set of those whose slots have
    changed since it was there. One that has not is left to the count of its silence: it may simply be dead.
    """
    graph = links(seated)
    everybody = sum(1 << index for index in seated)
    if all(graph[index] | 1 << index == everybody for index in seated):
        return Choice()
    try:
        living = clique.best(graph, {index: one.weight for index, one in seated.items()})
    except clique.TooHard as why:
        return Choice(waiting=f"who hears whom is too intricate to decide: {why}")
    if not living >> me & 1:
        return Choice(living, waiting=f"{_names(seated, living)} are to live; this host is not among them")
    if published != living:
        return Choice(living, waiting="the intent is not yet on the disk")
    behind = [index for index in members(living) if seated[index].intent != living]
    if behind:
        return Choice(living, waiting=f"{_names(seated, sum(1 << i for i in behind))}: not yet of the same intent")
    rivals = [i for i in members(everybody & ~living) if seated[i].intent not in (0, living) and seated[i].intent >> i & 1]
    if rivals:
        return Choice(living, waiting=f"{_names(seated, sum(1 << i for i in rivals))}: of another intent")
    lost = everybody & ~living
    if still := lost & ~stirred:
        return Choice(living, waiting=f"{_names(seated, still)}: no sign of life since the intent was published")
    return Choice(living, tuple(members(lost)))


def links(seated: Mapping[int, Slot]) -> dict[int, int]:
    """Who hears whom in both directions, in the incarnations that stand in the slots. Two of which one does without the other, by its
    configuration, need not hear each other: the configuration has reached one before the other, and no link is broken."""
    lives = {index: one.statement.incarnation for index, one in seated.items()}
    hears: dict[int, int] = {}
    for index, one in seated.items():
        meant = {k.slot for k in one.statement.known if lives.get(k.slot) == k.incarnation}
        hears[index] = sum(1 << other for other in meant if other != index and one.statement.views.network >> other & 1)
    return {a: sum(1 << b for b in seated if b != a and _linked(seated, hears, a, b)) for a in seated}


def _linked(seated: Mapping[int, Slot], hears: Mapping[int, int], a: int, b: int) -> bool:
    apart = not (seated[a].required >> b & 1 and seated[b].required >> a & 1)
    return apart or bool(hears[a] >> b & 1 and hears[b] >> a & 1)


def _names(seated: Mapping[int, Slot], mask: int) -> str:
    return ", ".join(seated[index].statement.host for index in members(mask) if index in seated)
