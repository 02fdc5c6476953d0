"""When a host may arm: the fixed point. Pure; it names, for people, exactly what is missing.

A pool in which nobody is armed arms when every member sees every other on both channels, says so on both, and all propose the same full set
under the same configuration. A host that comes later joins when it and every live armed member see each other on both channels.
Excluded members and those certified dead are not waited for; a silent armed member blocks until it is certified or back.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from quorate_core import membership, pool
from quorate_core.membership import Peer
from quorate_core.statement import Phase, Statement


@dataclass(frozen=True, slots=True)
class Me:
    """This host, as far as arming is concerned. `at` is its monotonic now."""

    slot: int
    incarnation: int
    at: float


@dataclass(frozen=True, slots=True)
class Ready:
    """What this host proposes (a set of slots; 0: nobody yet) and what still keeps it from arming ("" if nothing does)."""

    proposal: int
    missing: str = ""


def consider(me: Me, config: pool.PoolConfig, peers: Mapping[int, Peer], dead: Mapping[int, frozenset[int]]) -> Ready:
    """Whether this host may arm now."""
    armed: list[pool.Member] = []
    others: list[pool.Member] = []
    for member in config.members:
        peer = peers.get(member.slot, Peer())
        if member.slot == me.slot:
            continue
        if member.excluded or _is_certified(peer, dead.get(member.slot, frozenset())):
            continue
        others.append(member)
        if peer.phase is Phase.ARMED and membership.on_storage(peer, me.at, config.timing):
            armed.append(member)
        elif peer.watch is not None and peer.watch.armed:
            return Ready(0, f"{member.host} was armed and is silent; it has to return or to be certified dead first{_by_others(peer, me)}")
    deciding = [m.host for m in armed if (seen := peers[m.slot].slot) is not None and seen.intent]
    if deciding:
        return Ready(0, f"{', '.join(deciding)}: deciding who lives on in a partition; nobody joins meanwhile")
    awaited = armed or others
    missing = [why for member in awaited if (why := _not_mutual(me, config, member, peers, dead))]
    if missing:
        return Ready(0, "; ".join(missing))
    if aloof := [m.host for m in armed if (own := peers[m.slot].slot) is not None and not own.required >> me.slot & 1]:
        # If one of them died now, this host could not certify it.
        return Ready(0, f"{', '.join(aloof)}: has certified this host's former life and not yet let it in again")
    if armed:
        return Ready(_bits(armed) | 1 << me.slot)
    proposal = _bits(others) | 1 << me.slot
    waiting = [m.host for m in others if not _proposes(peers[m.slot], proposal)]
    return Ready(proposal, f"{', '.join(waiting)}: not yet proposing the same {proposal.bit_count()} hosts" if waiting else "")


def _not_mutual(me: Me, config: pool.PoolConfig, member: pool.Member, peers: Mapping[int, Peer], dead: Mapping[int, frozenset[int]]) -> str:
    peer = peers.get(member.slot, Peer())
    storage = membership.on_storage(peer, me.at, config.timing)
    network = membership.on_network(peer, me.at, config.timing, dead.get(member.slot, frozenset()))
    if peer.predecessor_uncertified:
        return f"{member.host} was reborn and its former life is not yet certified dead"
    if not (storage and network):
        where = "storage or the network" if not (storage or network) else "the network" if storage else "storage"
        return f"{member.host} is not seen on {where}"
    for said, channel in ((peer.slot and peer.slot.statement, "storage"), (peer.packet, "the network")):
        if not isinstance(said, Statement) or not said.sees(me.slot, me.incarnation):
            return f"{member.host} does not yet say on {channel} that it sees this host on both channels"
        if said.config_hash != config.hash:
            return f"{member.host} has another pool configuration ({_difference(peer, config)})"
        if said.phase not in (Phase.JOINING, Phase.ARMED):
            return f"{member.host} is {said.phase.name.capitalize()}"
    return ""


def _difference(peer: Peer, config: pool.PoolConfig) -> str:
    """What is known of how its configuration differs: its slot shows the timing and a digest of the disks, the rest only as a hash."""
    if peer.slot is not None and (its := peer.slot.timing.licence_seconds) != config.timing.licence_seconds:
        return f"its licence is {its:g} s, here it is {config.timing.licence_seconds:g} s"
    if peer.slot is not None and peer.slot.disks_digest != config.disks_digest:
        return "its heartbeat disks are others"
    return "members or watchdog timeout"


def _is_certified(peer: Peer, dead: frozenset[int]) -> bool:
    return peer.slot is None and bool(dead)


def _proposes(peer: Peer, proposal: int) -> bool:
    said = (peer.slot.statement if peer.slot else None, peer.packet)
    return all(one is not None and one.views.proposal == proposal for one in said)


def _bits(members: list[pool.Member]) -> int:
    return sum(1 << m.slot for m in members)


def _by_others(peer: Peer, me: Me) -> str:
    """Why this host cannot help to certify it, if it cannot."""
    may = peer.watch is not None and peer.watch.required >> me.slot & 1
    return "" if may else ", and not by this host, whose word it does without since it certified this one or excluded it"
