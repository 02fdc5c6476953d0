"""Whom this host sees, on which channel, in which incarnation. It observes; it decides nothing about life and death.

A peer is seen on storage while its slot keeps changing, on the network while its packets keep coming, both on this host's own clock:
what the first read finds on the disk is old until it changes. An incarnation that was certified dead is never seen again, whatever still
arrives.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace

from quorate_core import certificate
from quorate_core.copies import Found, is_later, newest, outlived
from quorate_core.slot import Slot, is_empty
from quorate_core.statement import ECHO_MASK, Known, Phase, Statement, Views
from quorate_core.timing import Timing


@dataclass(frozen=True, slots=True)
class Peer:
    """What is known of the host of one slot. `blocks` is what each disk showed there last, `shown` the disks on which there was ever
    anything, `latest` those of the last read; `emptied`: one that carried it shows nothing there any more. `slot` is the newest copy of its
    present life. `changed_at` is None until its slot has changed before our eyes.

    `presumed` is the incarnation that the pulse before this one heard: heard as well until `presumed_until`, as long as no packet came.

    `condemned` is an incarnation that somebody has certified: it counts no more for membership, but its silence is counted on, so that
    this host can say on evidence of its own that it is dead. A copied certificate would be only as sound as the one it was copied from.
    """

    blocks: Mapping[int, bytes] = field(default_factory=dict)
    shown: frozenset[int] = frozenset()
    latest: frozenset[int] = frozenset()
    slot: Slot | None = None
    changed_at: float | None = None
    packet: Statement | None = None
    heard_at: float | None = None
    watch: certificate.Watch | None = None
    condemned: certificate.Watch | None = None
    presumed: int | None = None
    presumed_until: float = 0.0
    emptied: bool = False

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


def after_read(peer: Peer, found: Found, disks_digest: int, at: float, *, after_gap: bool, dead: frozenset[int]) -> Peer:
    """The peer after one more read of its slot, completed `at`, on the disks of that digest. `dead` are its incarnations that were
    certified."""
    copies = found.intact
    fresh = frozenset(disk for disk, block in found.blocks.items() if peer.blocks.get(disk) != block)
    # What a disk that was not in the read before shows may have been written long ago.
    moved = fresh & peer.latest
    # A life that somebody has certified was armed, so its number stood on a majority before the next life began, which is above it. What is
    # below is left of a life before: nothing of that is to be certified any more.
    here = (one for one in copies.values() if one.disks_digest == disks_digest)
    floor = max((one.statement.sequence for one in here if one.statement.incarnation in dead), default=-1)
    living = {
        disk: one
        for disk, one in copies.items()
        if one.statement.incarnation not in dead
        and (one.disks_digest != disks_digest or one.statement.sequence > floor)
        and not outlived(one, copies.values())
    }
    # What proves its life on other disks cannot be watched on these; to wait for its certificate would be to wait for ever.
    watched = {one.statement.incarnation for one in living.values() if one.disks_digest == disks_digest}
    certified = {one.statement.incarnation for one in copies.values()} & dead
    if peer.watch is not None and peer.watch.incarnation in dead:
        peer = replace(peer, watch=None, condemned=peer.watch)
    watch = certificate.observe(peer.watch, found, fresh, at, watched, after_gap=after_gap)
    condemned = certificate.observe(peer.condemned, found, fresh, at, certified, after_gap=after_gap)
    # A watch that went over to an incarnation that nobody has certified is not this one's business.
    condemned = condemned if condemned is not None and condemned.incarnation in dead else None
    peer = _shown(replace(peer, watch=watch, condemned=condemned), found)
    # A life that goes on, or one that has just written, is the host's present one; what merely stands there may be left of another.
    wrote = newest(living[disk] for disk in moved if disk in living)
    seen = _further(peer, living.values()) or wrote or newest(living.values())
    if seen is not None:
        lives = {one.statement.incarnation for one in living.values()}
        return _seen(peer, seen, at, lives=lives, wrote=wrote is not None)
    # The dead, perhaps a late write of theirs (the caller reports it), are ignored for membership.
    alive = not certified or (peer.slot is not None and peer.slot.statement.incarnation not in dead)
    return peer if alive else replace(peer, slot=None, changed_at=None)


def _shown(peer: Peer, found: Found) -> Peer:
    """With what each disk shows of it."""
    written = frozenset(disk for disk, block in found.blocks.items() if not is_empty(block))
    emptied = not peer.shown.isdisjoint(found.carried_by - written)
    blocks, latest = {**peer.blocks, **found.blocks}, frozenset(found.blocks)
    return replace(peer, blocks=blocks, shown=peer.shown | written, latest=latest, emptied=emptied)


def _seen(peer: Peer, seen: Slot, at: float, *, lives: Collection[int], wrote: bool) -> Peer:
    """With that copy as its present one, if it is not left of what was. `lives` are all that stand there, `wrote`: one just wrote."""
    said = seen.statement
    if peer.slot is None:
        # The first sight of a slot is no life sign, unless the block had been read before and was something else.
        return replace(peer, slot=seen, changed_at=at if wrote else None)
    was = peer.slot.statement
    if was.incarnation == said.incarnation and said.sequence < was.sequence:
        return peer  # an old write that landed late, or another disk's: no sign of life, and nothing that still holds
    if was.incarnation != said.incarnation and not wrote and was.incarnation in lives:
        return peer  # both merely stand there
    if was.incarnation != said.incarnation and peer.slot.boot_id == seen.boot_id and is_later(peer.slot, seen):
        return peer  # a life before the present one, which was released
    same = (was.incarnation, was.sequence) == (said.incarnation, said.sequence)
    return replace(peer, slot=seen, changed_at=peer.changed_at if same else at)


def _further(peer: Peer, copies: Iterable[Slot]) -> Slot | None:
    """The newest copy of the life that is known as the present one, if it is newer than what is known of it."""
    own = newest(one for one in copies if one.statement.incarnation == peer.incarnation)
    return own if own is not None and peer.slot is not None and own.statement.sequence > peer.slot.statement.sequence else None


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
