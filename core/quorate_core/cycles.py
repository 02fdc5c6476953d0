"""What follows from a completed storage cycle: the own licence, the peers' slots, the claim on the own slot, disarming.

What is said about others follows in `judgement`.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace

from quorate_core import claim, copies, judgement, membership, numbers, pool, publish, slot
from quorate_core.eviction import Eviction
from quorate_core.heart import Action, GiveDeadline, Heart, Pending, ReleaseKeeper, Say
from quorate_core.licence import Cycle, Evidence, NoEvidence, judge
from quorate_core.statement import Malformed, Phase
from quorate_core.storageless import Questions
from quorate_core.timing import SETTLE_SECONDS


def done(heart: Heart, now: float, cycle: Cycle) -> tuple[Heart, tuple[Action, ...]]:
    """The host after a storage cycle."""
    config, member, pending = heart.config, heart.member, heart.pending
    if pending is None or pending.number != cycle.number:
        return heart, ()
    heart = replace(heart, pending=None, settled=False)
    if config is None or member is None:
        return heart, ()
    if heart.phase is Phase.FENCING:
        return _stopped_said(heart, member, cycle, pending), ()
    heart = judgement.doubt_records(heart, cycle)
    if cycle.error:
        problem = heart.disk_problem and cycle.error
        return replace(heart, no_evidence=cycle.error, disk_problem=problem, disk_refused=cycle.refused), ()
    heart = _look_at_disk(heart, config, member, cycle)
    if heart.disk_problem:
        return replace(heart, no_evidence=heart.disk_problem), ()
    if heart.spent:
        return _begin_again(heart), ()
    found = copies.find(cycle, config)
    held = {index: one.holding() for index, one in found.items()}
    mine = held[member.slot]
    heart = _hear_what_was_said(heart, found, held, config.disks_digest)
    # Once this host has said that it has no storage, nothing that it knew of the others' silence counts any more.
    heart, actions = _read_peers(heart, config, member, cycle, found, afresh=heart.blind_since is not None)
    if heart.resuming:
        return _resume(heart, now, config, mine), tuple(actions)
    if not heart.claimed:
        return _claim(heart, now, config, member, cycle, mine, found[member.slot].intact.values()), tuple(actions)
    limit = config.timing.cycle_limit_seconds
    for left in heart.departed:
        held[left.slot] = [*held.get(left.slot, ()), *copies.find_one(cycle, config, left).holding()]
    proof = judge(cycle, held, config, member.slot, heart.incarnation, limit, heart.claimed_over, heart.buried)
    match proof:
        case NoEvidence(reason, condemned):
            heart = replace(heart, no_evidence=reason)
            if condemned and heart.deadline is not None and not heart.released:
                heart = replace(heart, phase=Phase.FENCING, message=reason, condemned=True, next_cycle_at=0.0)
            return heart, (*actions, Say(f"{heart.host}: no proof of life: {reason}", loud=True))
        case Evidence():
            heart = replace(heart, evidence_at=proof.at, no_evidence="")
    # Only when no older write can land any more on a disk that carries this cycle is it known that this slot is the one that others read.
    failed_at = 0.0 if cycle.failed_at is None else cycle.failed_at + SETTLE_SECONDS
    heart = replace(heart, settled=pending.issued_at >= max(heart.settled_at, failed_at))
    heart, renewed = _renew(heart, config, proof, pending)
    assert pending.slot is not None, "a cycle is evidence only if it has written"
    heart, seeing = _see_again(heart, config, cycle)
    heart = replace(heart, required=pending.slot.required if heart.settled else heart.required | pending.slot.required)
    heart, said = judgement.judge(heart, config, member, cycle, pending.slot)
    return heart, (*actions, *renewed, *seeing, *said)


def _begin_again(heart: Heart) -> Heart:
    """The next life, after one that was released: what anybody says against that one, or has seen of it, is not told of this one. Only
    now that the disk answers: until then it still gives its word to those who live on it."""
    return replace(
        heart,
        incarnation=numbers.another(heart.incarnation),
        lives=heart.lives | {heart.incarnation},
        spent=False,
        claimed=False,
        claim=None,
        claimed_over=(),
        proposal=0,
        evictions=(),
        alarms=(),
        questions=Questions(),
        required=0,
        evidence_at=None,
        no_evidence="no storage cycle of this life has been completed yet",
        condemned=False,
        next_cycle_at=0.0,
    )


def release(heart: Heart) -> ReleaseKeeper:
    """The word that frees the keeper from its licence."""
    return ReleaseKeeper(heart.incarnation)


def shout(heart: Heart, index: int, incarnation: int, host: str, what: str) -> tuple[Heart, tuple[Action, ...]]:
    """A sign of life of an incarnation that was certified dead: ignored for membership, said once, loudly."""
    key = (index, incarnation, what)
    if key in heart.shouted:
        return heart, ()
    sentence = f"{what} of incarnation {incarnation:016x} of {host}, which is certified dead, arrived after its certificate; ignored"
    return replace(heart, shouted=heart.shouted | {key}), (Say(sentence, loud=True),)


def _look_at_disk(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle) -> Heart:
    """Whether this disk is the pool's. Somebody else's disk is never written."""
    try:
        owner = slot.decode_header(cycle.header)
    except Malformed as why:
        if not slot.is_empty(cycle.header):
            problem = f"the heartbeat disk's first block is {why}; it is not overwritten"
            return replace(heart, disk_problem=problem, disk_refused=True, blank_disks=())
        if any(not slot.is_empty(block) for block in cycle.blocks.values()):
            problem = "the heartbeat disk has no header but is not empty; it is not overwritten"
            return replace(heart, disk_problem=problem, disk_refused=True, blank_disks=())
        first = min((m for m in config.members if not m.excluded), key=lambda m: m.slot, default=member)
        problem = f"the heartbeat disk is empty; waiting for {first.host} (slot {first.slot}) to initialise it"
        return replace(heart, disk_problem=problem, disk_refused=False, blank_disks=cycle.blank or (0,))
    if owner != config.pool_id:
        problem = f"the heartbeat disk belongs to pool {owner.hex()}, not to this pool ({config.pool_id.hex()})"
        return replace(heart, disk_problem=problem, disk_refused=True, blank_disks=())
    return replace(heart, disk_problem="", disk_refused=False, blank_disks=cycle.blank)


def _hear_what_was_said(
    heart: Heart, found: Mapping[int, copies.Found], held: Mapping[int, Collection[slot.Slot]], disks_digest: int
) -> Heart:
    """Whoever is certified dead anywhere is dead for good; whoever is evicted on these disks by what holds of the living, or by this host,
    is so now."""
    dead = dict(heart.dead)
    for issued in (certificate for one in found.values() for copy in one.intact.values() for certificate in copy.certificates):
        dead[issued.slot] = dead.get(issued.slot, frozenset()) | {issued.incarnation}
    mine = frozenset((record.slot, record.incarnation) for record in heart.evictions)
    buried = heart.buried.union(*dead.values())
    standing = (one for copies_held in held.values() for one in copies_held if one.statement.incarnation not in buried)
    evicted = mine.union(*(one.evictions for one in standing if one.disks_digest == disks_digest))
    return replace(heart, dead=dead, buried=buried, evicted=evicted)


def _read_peers(
    heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, found: Mapping[int, copies.Found], *, afresh: bool
) -> tuple[Heart, list[Action]]:
    actions: list[Action] = []
    last = heart.last_read_at
    after_gap = afresh or (last is not None and cycle.completed_at - last > config.timing.read_gap_limit_seconds)
    peers = dict(heart.peers)
    for one in config.members:
        if one.slot == member.slot:
            continue
        was, seen = peers.get(one.slot, membership.Peer()), found[one.slot]
        lives = heart.dead.get(one.slot, frozenset())
        for disk, copy in seen.intact.items():
            if copy.statement.incarnation in lives and was.blocks.get(disk, seen.blocks[disk]) != seen.blocks[disk]:
                heart, said = shout(heart, one.slot, copy.statement.incarnation, one.host, "a slot write")
                actions.extend(said)
        peers[one.slot] = membership.after_read(was, seen, config.disks_digest, cycle.completed_at, after_gap=after_gap, dead=lives)
    return replace(heart, peers=peers, last_read_at=cycle.completed_at), actions


def _claim(
    heart: Heart,
    now: float,
    config: pool.PoolConfig,
    member: pool.Member,
    cycle: Cycle,
    mine: Collection[slot.Slot],
    found: Collection[slot.Slot],
) -> Heart:
    blocks = cycle.copies(member.slot)
    if not blocks:
        return heart  # it was begun under another configuration, and did not look at this slot
    claimed = claim.look(heart.claim, blocks, cycle.completed_at)
    over = heart.dead.get(member.slot, frozenset()) | heart.lives
    why = claim.objection(claimed, cycle.read_issued_at, heart.host, heart.boot_id, config.pool_id, over, config.timing)
    heart = replace(heart, claim=claimed)
    if why:
        return replace(heart, phase=Phase.REFUSED if claimed.changed else Phase.STARTING, message=why)
    # Whom the former lives of this host had certified is dead; that is carried over until they are back. Whom they had evicted is not:
    # nobody counts that any more.
    carried = _certified(mine)
    # Of its own boot no life has been reset: it was released. What is left on other disks is of a life before those on these. Also one
    # that had begun to leave, on some of the disks: others may see it armed.
    armed = [one for one in found if one.was_armed and one.boot_id != heart.boot_id]
    former = copies.newest(one for one in armed if one.disks_digest == config.disks_digest) or copies.newest(armed)
    if former is not None:
        # It has waited until that life must have ended, or somebody else has said so. It may be the only one who can, or the last one who
        # knows. This lets the new life be accepted; no VM is restarted on it (`hostphase`).
        waited = max(0.0, cycle.read_issued_at - claimed.since)
        own = slot.Issued(member.slot, former.statement.incarnation, round(waited, 3), former.timing.release_after_silence_seconds)
        carried = (*(c for c in carried if c.slot != member.slot), own)
    return replace(
        heart,
        claimed=True,
        claimed_over=tuple(blocks.values()),
        claim=None,
        issued=carried,
        next_cycle_at=0.0,
        # A write of an earlier start of this agent may still be on its way.
        settled_at=max(heart.settled_at, now + SETTLE_SECONDS),
        sequence=numbers.first((heart.sequence, *_numbers(blocks.values())), now),
    )


def _numbers(blocks: Iterable[bytes]) -> Iterator[int]:
    """What stands in the own slot, whoever wrote it."""
    return (found.statement.sequence for found in map(slot.legible, blocks) if found is not None)


def _carried(mine: slot.Slot) -> tuple[Eviction, ...]:
    """The records of the pulse before; reckoned with one's own timing until the evicted host's is read."""
    return tuple(Eviction(index, incarnation, mine.timing) for index, incarnation in sorted(mine.evictions))


def _certified(mine: Collection[slot.Slot]) -> tuple[slot.Issued, ...]:
    """What they had certified, of each host the newest."""
    found = {c.slot: c for one in sorted(mine, key=lambda one: one.statement.sequence) for c in one.certificates}
    return tuple(found.values())


def _resume(heart: Heart, now: float, config: pool.PoolConfig, held: Collection[slot.Slot]) -> Heart:
    mine = copies.newest(one for one in held if one.statement.incarnation == heart.incarnation)
    if mine is None:
        return replace(heart, no_evidence="this host's own slot does not show the incarnation that its licence belongs to")
    # The longest of the published licence and the one that runs binds: it may have been killed before it could publish that.
    longest = max(mine.timing.licence_seconds, config.timing.licence_seconds)
    bound = replace(config, timing=replace(config.timing, licence_seconds=longest))
    # Fencing is final, also for the pulse that comes after; else it goes on as armed, or as leaving.
    phase = mine.statement.phase if mine.statement.phase in (Phase.DISARMED, Phase.FENCING) else Phase.ARMED
    records = _carried(mine)
    return replace(
        heart,
        config=bound,
        peers=membership.presume(heart.peers, mine.statement, now + bound.timing.network_timeout_seconds),
        resuming=False,
        claimed=True,
        sequence=numbers.following(mine.statement.sequence, now),
        issued=mine.certificates,
        evictions=records,
        evicted=heart.evicted.union((record.slot, record.incarnation) for record in records),
        required=mine.required | config.required,
        # A write of the pulse before may still be on its way.
        settled_at=now + SETTLE_SECONDS,
        # It may have said that it had no storage, and nobody remembers.
        blind_since=now,
        # The licence is at least as old as its evidence, so this host says no later than the others that it has no storage.
        evidence_at=None if heart.deadline is None else heart.deadline - bound.timing.licence_seconds,
        phase=phase,
        condemned=phase is Phase.FENCING,
        message="the pulse before this one was fencing" if phase is Phase.FENCING else "",
        confirmed=phase is Phase.ARMED and mine.was_armed,
        watchdog_seconds=max(heart.watchdog_seconds, mine.timing.watchdog_seconds),
        next_cycle_at=0.0,
    )


def _renew(heart: Heart, config: pool.PoolConfig, proof: Evidence, pending: Pending) -> tuple[Heart, tuple[Action, ...]]:
    if heart.deadline is None:
        return heart, ()
    if heart.released or (heart.phase is Phase.DISARMED and pending.phase is Phase.DISARMED and heart.settled):
        # Everybody can now read that this host is disarmed, and no old write will say otherwise, so nobody will certify it: the keeper may
        # go without a licence. From now on it hears nothing else: a deadline after its release would be a new licence, which nobody renews.
        return replace(heart, released=True), (release(heart),)
    deadline = max(heart.deadline, proof.deadline(config.timing.licence_seconds))
    confirmed = heart.confirmed or (heart.settled and pending.phase is Phase.ARMED and heart.phase is Phase.ARMED)
    return replace(heart, deadline=deadline, confirmed=confirmed), (GiveDeadline(heart.incarnation, deadline),)


def _see_again(heart: Heart, config: pool.PoolConfig, cycle: Cycle) -> tuple[Heart, tuple[Action, ...]]:
    """Whether this host has watched the disk again since it last said that it had no storage. It judges nobody for a full R_s from then."""
    if heart.blind_since is None or cycle.issued_at <= heart.blind_since:
        return heart, ()
    wait = publish.timing_values(heart, config).release_after_silence_seconds
    heart = replace(heart, blind_since=None, barred_until=max(heart.barred_until, cycle.completed_at + wait))
    return heart, (Say(f"{heart.host}: watches the heartbeat disk again; judges nobody for {wait:g} s"),)


def _stopped_said(heart: Heart, member: pool.Member, cycle: Cycle, pending: Pending) -> Heart:
    """A fenced host says only once that no VM is left on it."""
    done = pending.slot is not None and pending.slot.stopped and not cycle.error and cycle.blocks.get(member.slot) == cycle.written
    return replace(heart, stopped_said=heart.stopped_said or done)
