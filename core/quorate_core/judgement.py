"""What this host says about the others after a cycle that proved its own life: certificates, evictions, and on which side it wants to live.

Nobody is judged on a cycle that proves nothing for the judge, nor by a host that has said that it has no storage, before it has watched the
disk again for a full R_s. What this host says stays in its slot until the one it is about is back in another life.
"""

from collections.abc import Mapping
from dataclasses import replace

from quorate_core import certificate, eviction, membership, partition, pool
from quorate_core.certificate import Judge
from quorate_core.clique import members
from quorate_core.eviction import Alarm, Eviction
from quorate_core.heart import Action, Heart, Say
from quorate_core.licence import Cycle
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Phase

_WORDS = {
    Evidence.SILENCE: "its slot has not changed for",
    Evidence.EVICTION: "it has been evicted for",
    Evidence.CONFIRMED: "it is fenced, and without any VM by its own word, for",
}


def judge(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, written: Slot) -> tuple[Heart, tuple[Action, ...]]:
    """The host after a cycle that was evidence for it. `written` is its own slot as it now stands on the disk."""
    back = {i for i, p in heart.peers.items() if p.phase is Phase.ARMED and membership.on_storage(p, cycle.completed_at, config.timing)}
    heart = _forget(heart, config, back)
    heart = _keep_records(heart, Judge(member.slot, config.disks_digest), cycle, written)
    if heart.phase not in (Phase.ARMED, Phase.JOINING) or heart.blind_since is not None:
        return replace(heart, intent=0, intent_at=None, undecided="", alarms=()), ()
    heart, certified = _certify(heart, config, member, cycle, back)
    heart, evicted = _decide(heart, config, member, cycle, written)
    return heart, (*certified, *evicted)


def doubt_records(heart: Heart, cycle: Cycle) -> Heart:
    """This host's eviction records when a cycle has ended, whatever it proved."""
    if cycle.written is None or not heart.evictions:
        return heart
    return replace(heart, evictions=tuple(eviction.doubt(record, cycle) for record in heart.evictions))


def _forget(heart: Heart, config: pool.PoolConfig, back: set[int]) -> Heart:
    """Drop what was said about hosts that are back in another life, or are members no more, and records of those that have left in time."""

    def over(record: Eviction) -> bool:
        seen = _slot_of(heart, record.slot)
        if seen is not None and eviction.escaped(record, seen):
            return True
        return record.slot in back and seen is not None and seen.statement.incarnation != record.incarnation

    return replace(
        heart,
        # That its own former life is dead stays true, and who comes later may hear it from nobody else.
        issued=tuple(c for c in heart.issued if c.slot not in back and config.member_at(c.slot)),
        evictions=tuple(r for r in heart.evictions if config.member_at(r.slot) and not over(r)),
    )


def _keep_records(heart: Heart, me: Judge, cycle: Cycle, written: Slot) -> Heart:
    """This host's eviction records after the cycle, with those of others that it now adopts."""
    seen = (eviction.observe(record, _slot_of(heart, record.slot), me) for record in heart.evictions)
    records = [eviction.confirm(record, written, cycle, settled=heart.settled) for record in seen]
    if _takes_part(heart) and heart.blind_since is None:
        mine = {(r.slot, r.incarnation) for r in records}
        for index, incarnation in sorted(heart.evicted - mine):
            peer = heart.peers.get(index, membership.Peer())
            under_watchdog = peer.slot is not None and peer.slot.was_armed
            if peer.slot is not None and under_watchdog and peer.incarnation == incarnation and index != me.slot:
                records.append(eviction.of(index, peer.slot))
    return replace(heart, evictions=tuple(records))


def _certify(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, back: set[int]) -> tuple[Heart, tuple[Action, ...]]:
    actions: list[Action] = []
    alarms: list[Alarm] = []
    for one in config.members:
        if one.slot == member.slot:
            continue
        verdict = _verdict(heart, config, member, one, cycle, silence=one.slot not in back)
        if isinstance(verdict, Alarm):
            alarms.append(verdict)
            if verdict not in heart.alarms:
                actions.append(Say(verdict.sentence(one.host), loud=True))
        if not isinstance(verdict, Issued):
            continue
        others = tuple(c for c in heart.issued if c.slot != one.slot)
        dead = {**heart.dead, one.slot: heart.dead.get(one.slot, frozenset()) | {verdict.incarnation}}
        heart = replace(heart, issued=(*others, verdict), dead=dead)
        sentence = (
            f"{one.host} is certified dead: incarnation {verdict.incarnation:016x}: {_WORDS[verdict.evidence]} "
            f"{verdict.silent_seconds:.1f} s (limit {verdict.bound_seconds:g} s)"
        )
        actions.append(Say(sentence, loud=True))
    return replace(heart, alarms=tuple(alarms)), tuple(actions)


def _verdict(
    heart: Heart, config: pool.PoolConfig, member: pool.Member, other: pool.Member, cycle: Cycle, *, silence: bool
) -> Issued | Alarm | str:
    """The strongest certificate of another host that this cycle allows, or why there is none."""
    why = "it is not watched"
    if (watch := _uncertified(heart, other.slot)) is not None and (issued := certificate.confirmed(watch, other.slot, cycle)) is not None:
        return issued
    if cycle.completed_at < heart.barred_until:
        return f"this host may not judge for another {heart.barred_until - cycle.completed_at:.0f} s"
    peer, timeout = heart.peers.get(other.slot, membership.Peer()), config.timing.network_timeout_seconds
    me = Judge(member.slot, config.disks_digest)
    dead = heart.dead.get(other.slot, frozenset())
    # Of one that others have certified, only the count of its silence shows that it still writes or speaks. That the count began anew may
    # also mean that this host could not look, which is no alarm.
    quiet = watch.incarnation if watch is not None and watch.armed and cycle.completed_at - watch.since > timeout else None
    for record in heart.evictions:
        if record.slot == other.slot and (record.incarnation not in dead or record.incarnation == quiet):
            found = eviction.verdict(record, cycle, _last_sign(peer, record.incarnation), timeout, me)
            if not isinstance(found, str):
                return found
            why = found
    if watch is None or not silence:
        return why
    if peer.emptied:
        # It may be another disk than the one on which that host proves its life.
        return "a heartbeat disk shows nothing any more where its slot was"
    return certificate.verdict(watch, other.slot, cycle, peer.heard_of(watch.incarnation), timeout, me)


def _uncertified(heart: Heart, index: int) -> certificate.Watch | None:
    """The incarnation in that slot that this host may still have to certify itself: also one that others have certified. A certificate that
    only one host publishes is lost with that host, or with its way to the API."""
    peer, dead = heart.peers.get(index, membership.Peer()), heart.dead.get(index, frozenset())
    if peer.watch is not None and peer.watch.armed and peer.watch.incarnation not in dead:
        return peer.watch
    condemned = peer.condemned
    said = any(c.slot == index and (condemned is None or c.incarnation == condemned.incarnation) for c in heart.issued)
    return None if said else condemned


def _last_sign(peer: membership.Peer, incarnation: int) -> float | None:
    written = peer.changed_at if peer.incarnation == incarnation else None
    signs = [at for at in (written, peer.heard_of(incarnation)) if at is not None]
    return max(signs, default=None)


def _decide(heart: Heart, config: pool.PoolConfig, member: pool.Member, cycle: Cycle, written: Slot) -> tuple[Heart, tuple[Action, ...]]:
    """The intent of this host after the cycle, and the evictions that follow from it."""
    if not _takes_part(heart):
        return replace(heart, intent=0, intent_at=None, undecided=""), ()
    if any(r.incarnation not in heart.dead.get(r.slot, frozenset()) for r in heart.evictions):
        # One reconfiguration at a time: a link that comes and goes must not take one host after the other.
        return replace(heart, intent=0, intent_at=None, undecided=""), ()
    at, timing = cycle.completed_at, config.timing
    seated = {
        i: p.slot
        for i, p in heart.peers.items()
        if p.slot is not None
        and p.phase is Phase.ARMED
        and p.slot.watchdog_armed
        and p.slot.disks_digest == config.disks_digest
        and membership.on_storage(p, at, timing)
        and (i, p.incarnation) not in heart.evicted
    }
    since = heart.intent_at
    if written.intent != heart.intent or not written.intent:
        since = None
    elif since is None:
        since = at
    published = heart.intent if since is not None and since < cycle.issued_at else 0
    stirred = sum(1 << i for i, p in heart.peers.items() if since is not None and p.changed_at is not None and p.changed_at > since)
    choice = partition.choose(member.slot, {**seated, member.slot: written}, published, stirred)
    before, same = heart.intent, choice.intent == heart.intent
    undecided = choice.waiting if choice.intent else ""
    heart = replace(heart, intent=choice.intent, intent_at=since if same else None, undecided=undecided)
    if choice.evict and at >= heart.barred_until:
        return _evict(heart, config, member, choice, seated)
    if heart.intent and not same:
        living = _hosts(config, choice.intent)
        return heart, (Say(f"{heart.host}: not all hosts hear each other; {living} are to live ({choice.waiting})", loud=True),)
    if before and not heart.intent:
        return heart, (Say(f"{heart.host}: nothing has to be decided any more"),)
    return heart, ()


def _evict(
    heart: Heart, config: pool.PoolConfig, member: pool.Member, choice: partition.Choice, seated: Mapping[int, Slot]
) -> tuple[Heart, tuple[Action, ...]]:
    records = tuple(eviction.of(index, seated[index]) for index in choice.evict if seated[index].required >> member.slot & 1)
    if not records:
        # None of them counts this host among its own: it has left the pool in their eyes, and they read nothing that it writes.
        return heart, ()
    lost = _hosts(config, sum(1 << record.slot for record in records))
    # From this moment they get no answer any more, also if the write should fail: it may have landed.
    heart = replace(
        heart,
        evictions=(*heart.evictions, *records),
        evicted=heart.evicted.union((record.slot, record.incarnation) for record in records),
        intent=0,
        intent_at=None,
        undecided="",
        next_cycle_at=0.0,
    )
    return heart, (Say(f"{heart.host}: evicts {lost}; {_hosts(config, choice.intent)} live on", loud=True),)


def _slot_of(heart: Heart, index: int) -> Slot | None:
    """The newest slot of that host, as far as it was not certified dead."""
    return heart.peers.get(index, membership.Peer()).slot


def _takes_part(heart: Heart) -> bool:
    return heart.phase is Phase.ARMED and heart.confirmed


def _hosts(config: pool.PoolConfig, mask: int) -> str:
    return ", ".join(one.host for i in members(mask) if (one := config.member_at(i)) is not None)
