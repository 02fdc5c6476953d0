"""What follows from a completed storage cycle: the own licence, the peers' slots, the claim on the own slot, certificates, disarming."""

from dataclasses import replace

from quorate_core import certificate, claim, membership, pool, slot
from quorate_core.heart import Action, GiveDeadline, Heart, Pending, ReleaseKeeper, Say
from quorate_core.licence import Cycle, Evidence, NoEvidence, judge
from quorate_core.statement import Malformed, Phase

_RESUME_GAP = 1_000_000
"""Packets carry higher numbers than the last slot that was written; a resumed life starts above all of them."""


def done(heart: Heart, now: float, cycle: Cycle) -> tuple[Heart, tuple[Action, ...]]:
    """The host after a storage cycle."""
    config, member, pending = heart.config, heart.member, heart.pending
    if pending is None or pending.number != cycle.number:
        return heart, ()
    heart = replace(heart, pending=None)
    if config is None or member is None or heart.phase is Phase.FENCING:
        return heart, ()
    if cycle.error:
        problem = heart.disk_problem and cycle.error
        return replace(heart, no_evidence=cycle.error, disk_problem=problem, disk_refused=False), ()
    heart = _look_at_disk(heart, config, member, cycle)
    if heart.disk_problem:
        return replace(heart, no_evidence=heart.disk_problem), ()
    slots = membership.valid_slots(cycle, config)
    heart, actions = _read_peers(heart, config, member, cycle, slots)
    if heart.resuming:
        return _resume(heart, config, slots.get(member.slot)), tuple(actions)
    if not heart.claimed:
        return _claim(heart, config, member, cycle, slots.get(member.slot)), tuple(actions)
    limit = config.timing.cycle_limit_seconds
    proof = judge(cycle, slots, config.pool_id, member.slot, heart.incarnation, limit, heart.claimed_over)
    match proof:
        case NoEvidence(reason, condemned):
            heart = replace(heart, no_evidence=reason)
            if condemned and heart.deadline is not None:
                heart = replace(heart, phase=Phase.FENCING, message=reason)
            return heart, (*actions, Say(f"{heart.host}: no proof of life: {reason}", loud=True))
        case Evidence():
            heart = replace(heart, evidence_at=proof.at)
    heart, renewed = _renew(heart, config, proof, pending)
    heart, certified = _certify(heart, config, member, cycle)
    return heart, (*actions, *renewed, *certified)


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
            return replace(heart, disk_problem=problem, disk_refused=True, disk_blank=False)
        if any(not slot.is_empty(block) for block in cycle.blocks.values()):
            problem = "the heartbeat disk has no header but is not empty; it is not overwritten"
            return replace(heart, disk_problem=problem, disk_refused=True, disk_blank=False)
        first = min((m for m in config.members if not m.excluded), key=lambda m: m.slot, default=member)
        problem = f"the heartbeat disk is empty; waiting for {first.host} (slot {first.slot}) to initialise it"
        return replace(heart, disk_problem=problem, disk_refused=False, disk_blank=True)
    if owner != config.pool_id:
        problem = f"the heartbeat disk belongs to pool {owner.hex()}, not to this pool ({config.pool_id.hex()})"
        return replace(heart, disk_problem=problem, disk_refused=True, disk_blank=False)
    return replace(heart, disk_problem="", disk_refused=False, disk_blank=False)


def _read_peers(
    heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, slots: dict[int, slot.Slot]
) -> tuple[Heart, list[Action]]:
    actions: list[Action] = []
    dead = {index: set(lives) for index, lives in heart.dead.items()}
    for other in slots.values():
        for issued in other.certificates:
            dead.setdefault(issued.slot, set()).add(issued.incarnation)
    heart = replace(heart, dead={index: frozenset(lives) for index, lives in dead.items()})
    last = heart.last_read_at
    after_gap = last is not None and cycle.completed_at - last > config.timing.read_gap_limit_seconds
    peers = dict(heart.peers)
    for one in config.members:
        if one.slot == member.slot:
            continue
        was, block, seen = peers.get(one.slot, membership.Peer()), cycle.blocks.get(one.slot, b""), slots.get(one.slot)
        lives = heart.dead.get(one.slot, frozenset())
        late = seen is not None and seen.statement.incarnation in lives and was.block not in (b"", block)
        if seen is not None and late:
            heart, said = shout(heart, one.slot, seen.statement.incarnation, one.host, "a slot write")
            actions.extend(said)
        peers[one.slot] = membership.after_read(was, seen, block, cycle, after_gap=after_gap, dead=lives)
    return replace(heart, peers=peers, last_read_at=cycle.completed_at), actions


def _claim(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, mine: slot.Slot | None) -> Heart:
    block = cycle.blocks.get(member.slot, bytes(slot.BLOCK_BYTES))
    claimed = claim.look(heart.claim, block, cycle.completed_at)
    dead = heart.dead.get(member.slot, frozenset())
    why = claim.objection(claimed, cycle.completed_at, heart.host, heart.boot_id, config.pool_id, dead, config.timing)
    heart = replace(heart, claim=claimed)
    if why:
        return replace(heart, phase=Phase.REFUSED if claimed.changed else Phase.STARTING, message=why)
    # What the former life of this host had certified stays true; it is carried over until the dead hosts are back.
    carried = mine.certificates if mine is not None else ()
    return replace(heart, claimed=True, claimed_over=block, claim=None, issued=carried, next_cycle_at=0.0)


def _resume(heart: Heart, config: pool.PoolConfig, mine: slot.Slot | None) -> Heart:
    if mine is None or mine.statement.incarnation != heart.incarnation:
        return replace(heart, no_evidence="this host's own slot does not show the incarnation that its licence belongs to")
    # The published licence binds, whatever the configuration says by now.
    bound = replace(config, timing=replace(config.timing, licence_seconds=mine.timing.licence_seconds))
    disarmed = mine.statement.phase is Phase.DISARMED
    return replace(
        heart,
        config=bound,
        resuming=False,
        claimed=True,
        sequence=mine.statement.sequence + _RESUME_GAP,
        issued=mine.certificates,
        phase=Phase.DISARMED if disarmed else Phase.ARMED,
        message="",
        confirmed=not disarmed,
        watchdog_seconds=mine.timing.watchdog_seconds,
        next_cycle_at=0.0,
    )


def _renew(heart: Heart, config: pool.PoolConfig, proof: Evidence, pending: Pending) -> tuple[Heart, tuple[Action, ...]]:
    if heart.deadline is None:
        return heart, ()
    if heart.phase is Phase.DISARMED and pending.phase is Phase.DISARMED:
        # Everybody can now read that this host is disarmed, so nobody will certify it: the keeper may go without a licence.
        return heart, (release(heart),)
    deadline = max(heart.deadline, proof.deadline(config.timing.licence_seconds))
    confirmed = heart.confirmed or (pending.phase is Phase.ARMED and heart.phase is Phase.ARMED)
    return replace(heart, deadline=deadline, confirmed=confirmed), (GiveDeadline(heart.incarnation, deadline),)


def _certify(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle) -> tuple[Heart, tuple[Action, ...]]:
    """Certificates, on a cycle that was evidence for this host itself. A host that does not take part certifies nobody."""
    back = {i for i, p in heart.peers.items() if p.phase is Phase.ARMED and membership.on_storage(p, cycle.completed_at, config.timing)}
    kept = tuple(c for c in heart.issued if c.slot not in back and c.slot != member.slot and config.member_at(c.slot))
    heart = replace(heart, issued=kept)
    if heart.phase not in (Phase.ARMED, Phase.JOINING):
        return heart, ()
    actions: list[Action] = []
    for one in config.members:
        # Also what others have certified: a certificate that only one host publishes is lost with that host, or with its way to the API.
        watch = _silent(heart, one.slot)
        if one.slot in back or one.slot == member.slot or watch is None:
            continue
        heard = heart.peers[one.slot].heard_of(watch.incarnation)
        verdict = certificate.verdict(watch, one.slot, cycle, heard, config.timing.network_timeout_seconds)
        if isinstance(verdict, str):
            continue
        others = tuple(c for c in heart.issued if c.slot != one.slot)
        dead = {**heart.dead, one.slot: heart.dead.get(one.slot, frozenset()) | {watch.incarnation}}
        heart = replace(heart, issued=(*others, verdict), dead=dead)
        sentence = (
            f"{one.host} is certified dead: incarnation {watch.incarnation:016x} has not changed its slot for "
            f"{verdict.silent_seconds:.1f} s (limit {verdict.bound_seconds:g} s)"
        )
        actions.append(Say(sentence, loud=True))
    return heart, tuple(actions)


def _silent(heart: Heart, index: int) -> certificate.Watch | None:
    """The incarnation in that slot that this host may still have to certify itself."""
    peer, dead = heart.peers.get(index, membership.Peer()), heart.dead.get(index, frozenset())
    if peer.watch is not None and peer.watch.armed and peer.watch.incarnation not in dead:
        return peer.watch
    condemned = peer.condemned
    said = any(c.slot == index and (condemned is None or c.incarnation == condemned.incarnation) for c in heart.issued)
    return None if said else condemned
