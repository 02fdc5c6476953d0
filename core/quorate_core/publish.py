"""What a host says about itself, in its slot and in its packets. A host says that it is armed only once its keeper has confirmed it and no
older write can land over that any more: others will rely on its watchdog from then on."""

from quorate_core import membership, pool, slot, timing
from quorate_core.heart import Heart
from quorate_core.statement import Phase, Statement, Views


def phase(heart: Heart) -> Phase:
    """The phase to publish."""
    known = heart.licensed and (heart.confirmed or heart.settled)
    return Phase.JOINING if heart.phase is Phase.ARMED and not known else heart.phase


def timing_values(heart: Heart, config: pool.PoolConfig) -> timing.TimingValues:
    """The timing to publish: what the device really does counts, not what it was asked for; under a licence it never becomes shorter."""
    keeper = heart.keeper
    present = keeper.timeout_seconds if keeper is not None and keeper.timeout_seconds else config.timing.watchdog_seconds
    return config.timing.values_with_watchdog(heart.watchdog_seconds or present)


def statement(heart: Heart, config: pool.PoolConfig, member: pool.Member, now: float) -> Statement:
    """The statement of this moment."""
    seen, known = membership.views(heart.peers, now, config.timing, heart.dead, heart.evicted, member.slot, heart.incarnation)
    said = Views(seen.network, seen.storage, heart.proposal)
    bare = storageless(heart, config, now)
    return Statement(heart.host, member.slot, heart.incarnation, heart.sequence, config.hash, phase(heart), said, known, bare)


def storageless(heart: Heart, config: pool.PoolConfig, now: float) -> bool:
    """Whether this host has had no proof of life from storage for so long that it says so. It then condemns nobody. One that is disarmed
    says it too, also without a licence: those who have not heard that they may do without its word live on it."""
    if heart.evidence_at is None or heart.phase not in (Phase.ARMED, Phase.DISARMED):
        return False
    # Slow cycles that still count, or a pause of this process, are not the loss of storage: the last cycle must have failed, or hang.
    return heart.no_evidence != "" and now - heart.evidence_at > config.timing.storageless_after_seconds


def own_slot(heart: Heart, config: pool.PoolConfig, member: pool.Member, now: float) -> slot.Slot:
    """The own slot as it is to be written now."""
    return slot.Slot(
        config.pool_id,
        heart.boot_id,
        statement(heart, config, member, now),
        timing_values(heart, config),
        watchdog_armed=heart.licensed,
        stopped=heart.phase is Phase.FENCING and heart.vms_left == 0,
        weight=member.weight,
        disks_digest=config.disks_digest,
        required=required(heart, config, member, now),
        intent=heart.intent,
        evictions=tuple((record.slot, record.incarnation) for record in heart.evictions),
        certificates=heart.issued,
    )


def required(heart: Heart, config: pool.PoolConfig, member: pool.Member, now: float) -> int:
    """Whose word this host needs to live without storage: all who take part, but those that it has certified dead itself and that do not
    want to come back. Who is not among them may not judge it: a dead host that comes back waits until this one has let it in."""
    gone = 0
    for index in {c.slot for c in heart.issued} - {member.slot}:
        peer = heart.peers.get(index, membership.Peer())
        comes = peer.phase in (Phase.JOINING, Phase.ARMED) and membership.on_storage(peer, now, config.timing)
        gone |= 0 if comes else 1 << index
    return config.required & ~gone
