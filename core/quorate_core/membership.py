"""Whom this host sees, on which channel, in which incarnation. It observes; it decides nothing about life and death.

A peer is seen on storage while its slot keeps changing, on the network while its packets keep coming, both on this host's own clock:
what the first read finds on the disk is old until it changes. An incarnation that was certified dead is never seen again, whatever still
arrives.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from quorate_core import certificate, pool
from quorate_core.licence import Cycle
from quorate_core.slot import Slot, decode
from quorate_core.statement import ECHO_MASK, Known, Malformed, Phase, Statement, Views
from quorate_core.timing import Timing


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of the host of one slot. `changed_at` is None until its slot has changed before our eyes.

    `presumed` is the incarnation that the pulse before this one heard: heard as well until `presumed_until`, as long as no packet came.

    `condemned` is an incarnation that somebody has certified: it counts no more for membership, but its silence is counted on, so that
    this host can say on evidence of its own that it is dead. A copied certificate would be only as sound as the one it was copied from.
    """

    block: bytes = b""
    slot: Slot | None = None
    changed_at: float | None = None
    packet: Statement | None = None
    heard_at: float | None = None
    watch: certificate.Watch | None = None
    condemned: certificate.Watch | None = None
    presumed: int | None = None
    presumed_until: float = 0.0

    @property
    def incarnation(self) -> int | None:
        """The incarnation in its slot."""
        return self.slot.statement.incarnation if self.slot else None

    @property
    def phase(self) -> Phase | None:
        """Where it says it stands, by its slot."""
        return self.slot.statement.phase if self.slot else None

    def heard_of(self, incarnation: int) -> float | None:
        """When the last packet of that incarnation came, or None."""
        return self.heard_at if self.packet is not None and self.packet.incarnation == incarnation else None

    @property
    def predecessor_uncertified(self) -> bool:
        """Whether an older, armed incarnation of this host is not yet known to be dead: until then the new one is not accepted."""
        return self.watch is not None and self.watch.armed and self.incarnation != self.watch.incarnation


def valid_slots(cycle: Cycle, config: pool.PoolConfig) -> dict[int, Slot]:
    """The slots of members that are intact, of this pool, and written by their owner."""
    found = {}
    for member in config.members:
        try:
            read = decode(cycle.blocks.get(member.slot, b""))
        except Malformed:
            continue
        said = read.statement
        if read.pool_id == config.pool_id and said.host == member.host and said.slot == member.slot:
            found[member.slot] = read
    return found


def after_read(peer: Peer, seen: Slot | None, block: bytes, cycle: Cycle, *, after_gap: bool, dead: frozenset[int]) -> Peer:
    """The peer after one more read of its slot. `dead` are its incarnations that were certified."""
    if peer.watch is not None and peer.watch.incarnation in dead:
        peer = replace(peer, watch=None, condemned=peer.watch)
    counted = certificate.observe(peer.condemned, seen, block, cycle, after_gap=after_gap)
    # A watch that began for, or went over to, an incarnation that nobody has certified is not this one's business.
    peer = replace(peer, condemned=counted if counted is not None and counted.incarnation in dead else None)
    if seen is not None and seen.statement.incarnation in dead:
        # A late write of the dead: ignored for membership (the caller reports it), and no watch begins for it.
        alive = peer.slot is not None and peer.slot.statement.incarnation not in dead
        return peer if alive else replace(peer, block=block, slot=None, changed_at=None)
    watch = certificate.observe(peer.watch, seen, block, cycle, after_gap=after_gap)
    if seen is None:
        return replace(peer, block=block, watch=watch)
    if peer.slot is None:
        # The first sight of a slot is no life sign, unless the block had been read before and was something else.
        return replace(peer, block=block, slot=seen, changed_at=cycle.completed_at if peer.block else None, watch=watch)
    was, now = peer.slot.statement, seen.statement
    if was.incarnation == now.incarnation and now.sequence < was.sequence:
        return replace(peer, block=block, watch=watch)  # an old write that landed late: no sign of life, and nothing that still holds
    moved = (was.incarnation, was.sequence) != (now.incarnation, now.sequence)
    return replace(peer, block=block, slot=seen, changed_at=cycle.completed_at if moved else peer.changed_at, watch=watch)


def after_packet(peer: Peer, said: Statement, at: float) -> Peer:
    """The peer after a packet that passed the gate."""
    return replace(peer, packet=said, heard_at=at)


def after_packet_of_the_condemned(peer: Peer, incarnation: int, at: float) -> Peer:
    """The peer after a packet of an incarnation that was certified: no member any more, but a reason to count its silence again."""
    if peer.condemned is None or peer.condemned.incarnation != incarnation:
        return peer
    return replace(peer, condemned=replace(peer.condemned, since=at))


def presume(peers: Mapping[int, Peer], said: Statement, until: float) -> dict[int, Peer]:
    """The peers of a restarted pulse, which has heard nobody yet: whom the pulse before it heard, by its last slot, is not silent.

    For T_n and no longer: else two short absences, each of no harm, would look like a broken link. No answer is given on it.
    """
    heard = {one.slot: one.incarnation for one in said.known if said.hears(one.slot, one.incarnation)}
    return {index: replace(peer, presumed=heard[index], presumed_until=until) if index in heard else peer for index, peer in peers.items()}


def on_storage(peer: Peer, at: float, timing: Timing) -> bool:
    """Whether the peer is seen on storage."""
    fresh = peer.changed_at is not None and at - peer.changed_at <= timing.storage_timeout_seconds
    return fresh and peer.slot is not None and not peer.predecessor_uncertified


def on_network(peer: Peer, at: float, timing: Timing, dead: frozenset[int]) -> bool:
    """Whether the peer is seen on the network, in the incarnation of its slot if that is known."""
    if peer.packet is None or peer.heard_at is None:
        return peer.presumed is not None and peer.presumed == peer.incarnation and peer.presumed not in dead and at <= peer.presumed_until
    if at - peer.heard_at > timing.network_timeout_seconds:
        return False
    return peer.packet.incarnation not in dead and peer.incarnation in (None, peer.packet.incarnation)


def views(
    peers: Mapping[int, Peer],
    at: float,
    timing: Timing,
    dead: Mapping[int, frozenset[int]],
    evicted: frozenset[tuple[int, int]],
    my_slot: int,
    my_incarnation: int,
) -> tuple[Views, tuple[Known, ...]]:
    """Whom this host sees, itself included, which incarnations it means, and which of their packets it answers: an evicted incarnation
    gets no answer, or it could live on that. The proposal is left empty."""
    network = storage = 1 << my_slot
    known = {my_slot: Known(my_slot, my_incarnation)}
    for index, peer in peers.items():
        if index == my_slot:
            continue
        if on_storage(peer, at, timing):
            storage |= 1 << index
        if on_network(peer, at, timing, dead.get(index, frozenset())):
            network |= 1 << index
        incarnation = peer.incarnation or (peer.packet.incarnation if peer.packet else None)
        if (network | storage) >> index & 1 and incarnation is not None:
            answered = peer.packet is not None and peer.packet.incarnation == incarnation and (index, incarnation) not in evicted
            echo = peer.packet.sequence & ECHO_MASK if peer.packet is not None and answered else 0
            known[index] = Known(index, incarnation, echo)
    return Views(network, storage), tuple(known[index] for index in sorted(known))
