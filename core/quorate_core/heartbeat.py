"""The heartbeat machine of one host: `step(heart, event) -> (heart, actions)`. The agent and the simulation run this very function.

It composes the parts, each in its own file: licence and storageless (what proves my life), membership (whom I see), arming (when the pool
agrees), claim (when a slot is mine), partition (which side lives), certificate and eviction (when another host is dead). Silence is safe:
not giving the keeper a deadline is how this host dies.
"""

from dataclasses import replace
from typing import assert_never

from quorate_core import arming, cycles, keeping, membership, numbers, packet, pool, publish, slot, storageless
from quorate_core.heart import (
    Action,
    Configured,
    CountDrop,
    CycleDone,
    Event,
    GiveDeadline,
    Heart,
    Keeper,
    KeeperGone,
    KeeperSaid,
    OpenWatchdog,
    PacketHeard,
    Pending,
    Say,
    SendPacket,
    StartCycle,
    StopVms,
    Tick,
    VmsCounted,
)
from quorate_core.statement import Phase, Statement

_ASK_AGAIN_SECONDS = 2.0
_STOP_AGAIN_SECONDS = 1.0


def step(heart: Heart, event: Event) -> tuple[Heart, tuple[Action, ...]]:
    """What the host does about an event."""
    before = heart.phase
    heart, fenced = _check_licence(heart, event.now)
    actions: tuple[Action, ...]
    match event:
        case Tick(now):
            heart, actions = _tick(heart, now)
        case Configured(now, config):
            heart, actions = _configured(heart, config)
        case CycleDone(now, cycle):
            heart, actions = cycles.done(heart, now, cycle)
        case PacketHeard(now, said):
            heart, actions = _heard(heart, now, said)
        case KeeperSaid(now, keeper):
            heart, actions = _keeper_said(heart, now, keeper)
        case KeeperGone():
            heart, actions = replace(heart, keeper=None), ()
        case VmsCounted(_, left):
            heart, actions = _counted(heart, left)
        case _:
            assert_never(event)
    if heart.deadline is None and heart.wanted is not None:
        heart, taken = _configured(heart, heart.wanted)
        actions = (*actions, *taken)
    heart, more = _stand(heart, event.now)
    told: tuple[Action, ...] = ()
    if heart.phase is not before and not fenced:
        told = (Say(f"{heart.host}: {heart.phase.name.lower()}{': ' + heart.message if heart.message else ''}"),)
    return heart, (*fenced, *actions, *more, *told)


def _check_licence(heart: Heart, now: float) -> tuple[Heart, tuple[Action, ...]]:
    if heart.phase is Phase.FENCING or heart.deadline is None or now <= heart.deadline:
        return heart, ()
    if not heart.licensed and heart.keeper is not None and heart.keeper.mode in (keeping.Mode.OPEN, keeping.Mode.CLOSED):
        # The keeper never took the licence (it could not save its marker?), or has let go of the watchdog since: nothing will reset this
        # host, and it never said that it was armed.
        phase = Phase.JOINING if heart.phase is Phase.ARMED else heart.phase
        why = f"the keeper has not taken the licence that ended {now - heart.deadline:.1f} s ago; not armed"
        freed = replace(heart, phase=phase, message=why, deadline=None, confirmed=False, proposal=0)
        return freed, (Say(f"{heart.host}: {why}", loud=True),)
    if not heart.licensed and heart.keeper is None:
        # Whether it took the licence is known when it is back; if it stays away, the watchdog bites.
        return heart, ()
    if heart.released:
        # Everybody can read that it is disarmed. The keeper has let go of the licence, or says soon that it ended before it heard that.
        return heart, ()
    why = f"licence ended {now - heart.deadline:.1f} s ago ({heart.no_evidence}); the watchdog resets this host"
    return replace(heart, phase=Phase.FENCING, message=why), (Say(f"{heart.host}: fencing: {why}", loud=True),)


def _tick(heart: Heart, now: float) -> tuple[Heart, tuple[Action, ...]]:
    config, member = heart.config, heart.member
    if config is None or member is None:
        return heart, ()
    heart, late = _look_at_pending(heart, now, config)
    if heart.phase is Phase.FENCING:
        heart, fenced = _tick_fenced(heart, now, config, member)
        return heart, (*late, *fenced)
    # Before the keeper has spoken it is not known whether a licence is running.
    if heart.keeper is None and not heart.claimed:
        return heart, late
    actions = list(late)
    if heart.pending is None and now >= heart.next_cycle_at:
        heart, start = _start_cycle(heart, now, config, member)
        actions.append(start)
    if heart.claimed and now >= heart.next_packet_at:
        heart, sent = _send(heart, now, config, member)
        actions.extend(sent)
    return heart, tuple(actions)


def _look_at_pending(heart: Heart, now: float, config: pool.PoolConfig) -> tuple[Heart, tuple[Action, ...]]:
    """A cycle that hangs proves nothing any more. Of several disks the others are asked again: they may carry the next one."""
    limit = config.timing.cycle_limit_seconds
    if heart.pending is None or now - heart.pending.issued_at <= limit:
        return heart, ()
    why = f"the storage cycle hangs (limit {limit:g} s)"
    said = Say(f"{heart.host}: a storage cycle hangs for more than {limit:g} s; it proves nothing any more", loud=True)
    told: tuple[Action, ...] = (said,) if heart.no_evidence != why else ()
    heart = replace(heart, no_evidence=why)
    if len(config.disks) > 1:
        # What it found before it wrote will never be known.
        doubtful = tuple(replace(record, since=None) for record in heart.evictions)
        heart = replace(heart, pending=None, evictions=doubtful)
    return heart, told


def _tick_fenced(heart: Heart, now: float, config: pool.PoolConfig, member: pool.Member) -> tuple[Heart, tuple[Action, ...]]:
    """A fenced host stops its VMs for as long as it lives. When none is left, it says so in its slot: nobody has to wait for its end.

    As long as some are left, a condemned one goes on writing: those who wait for its end must see it if its watchdog does not reset it.
    """
    actions: list[Action] = []
    if heart.asked_stop_at is None or now - heart.asked_stop_at >= _STOP_AGAIN_SECONDS:
        heart = replace(heart, asked_stop_at=now)
        actions.append(StopVms())
    speaks = not heart.stopped_said if heart.vms_left == 0 else heart.condemned
    able = heart.claimed and not heart.resuming and not heart.disk_problem
    if speaks and able and heart.pending is None and now >= heart.next_cycle_at:
        heart, start = _start_cycle(heart, now, config, member)
        actions.append(start)
    return heart, tuple(actions)


def _counted(heart: Heart, left: int) -> tuple[Heart, tuple[Action, ...]]:
    if heart.phase is not Phase.FENCING or left == heart.vms_left:
        return heart, ()
    what = "no VM is left, and none can start" if left == 0 else f"{left} VMs are left"
    return replace(heart, vms_left=left), (Say(f"{heart.host}: fencing: {what}", loud=left > 0),)


def _start_cycle(heart: Heart, now: float, config: pool.PoolConfig, member: pool.Member) -> tuple[Heart, StartCycle]:
    own = None
    if heart.claimed and not heart.disk_problem:
        heart = replace(heart, sequence=numbers.following(heart.sequence, now))
        own = publish.own_slot(heart, config, member, now)
        # Until it is known which of these stands on the disk, the word of all that any of them names is needed.
        heart = replace(heart, required=heart.required | own.required)
    header, blank = None, heart.blank_disks
    present = [m.slot for m in config.members if not m.excluded]
    # Never under a licence: the blank disk may be another one than that on which the others watch this host.
    if blank and heart.deadline is None and present and member.slot == min(present):
        header = slot.encode_header(config.pool_id)
    number = heart.cycles + 1
    # `now` is the own clock before the write is even asked for: it is the E of this cycle's evidence.
    pending = Pending(number, now, own, publish.phase(heart))
    heart = replace(heart, cycles=number, pending=pending, next_cycle_at=now + config.timing.storage_interval_seconds)
    block = slot.encode(own) if own is not None else None
    last_slot = max(m.slot for m in (*config.members, *heart.departed))
    return heart, StartCycle(config.disks, number, member.slot, block, header, last_slot, blank if header else ())


def _send(heart: Heart, now: float, config: pool.PoolConfig, member: pool.Member) -> tuple[Heart, tuple[Action, ...]]:
    heart = replace(heart, sequence=numbers.following(heart.sequence, now), next_packet_at=now + config.timing.network_interval_seconds)
    said = publish.statement(heart, config, member, now)
    questions = storageless.asked(heart.questions, said.sequence, now, config.timing.licence_seconds)
    heart, told = _stand_without_storage(replace(heart, questions=questions), now, said.storageless)
    return heart, (SendPacket(said), *told)


def _stand_without_storage(heart: Heart, now: float, bare: bool) -> tuple[Heart, tuple[Action, ...]]:
    """Note that this host says it has no storage: from now on it knows nothing of the others' silence."""
    was = heart.storageless
    heart = replace(heart, storageless=bare, blind_since=now if bare else heart.blind_since)
    if bare and not was:
        why = f"no proof of life from storage: {heart.no_evidence}"
        how = "it needs none" if heart.deadline is None else "living on the word of all other hosts, if none of them has storage"
        return heart, (Say(f"{heart.host}: {why}; {how}", loud=True),)
    if was and not bare:
        return heart, (Say(f"{heart.host}: storage answers again"),)
    return heart, ()


def _configured(heart: Heart, config: pool.PoolConfig) -> tuple[Heart, tuple[Action, ...]]:
    heart = replace(heart, wanted=None)
    old, was = heart.config, heart.member
    member = config.member_of(heart.host)
    if heart.phase is Phase.FENCING and old is not None:
        return heart, ()  # what it has published binds it to its end; the bound that it reports is the one by which it is certified
    elsewhere = old is not None and heart.deadline is None and config.disks_digest != old.disks_digest
    if elsewhere:
        # What was seen on other disks, or is still being read there, says nothing about these: not even that somebody is silent there.
        heart = _knowing_nobody(replace(heart, pending=None, last_read_at=None, evidence_at=None), frozenset())
    if old is None or was is None or not heart.claimed:
        fresh = replace(heart, config=config, claim=None, next_cycle_at=0.0)
        return fresh if old is None else _without_strangers(fresh, old), ()
    if heart.deadline is None and (elsewhere or member is None or member.slot != was.slot or config.pool_id != old.pool_id):
        fresh = replace(heart, config=config, claim=None, claimed=False, disk_problem="not read yet")
        return _knowing_nobody(replace(fresh, phase=Phase.STARTING, evidence_at=None, confirmed=False), frozenset()), ()
    if heart.deadline is None:
        return _without_strangers(replace(heart, config=config), old), ()
    heart = replace(heart, wanted=config)
    if member is None or member.slot != was.slot or config.pool_id != old.pool_id:
        if not config.enabled:
            # Whichever pool it belongs to by now: its user wants it disarmed, and that is done under the pool that others know it by.
            return replace(heart, config=replace(old, enabled=False, disabled_reason=config.disabled_reason)), ()
        why = "is not in its pool" if member is None else "has another slot or pool"
        return heart, (Say(f"{heart.host} {why} by the new configuration; while armed it keeps the old one", loud=True),)
    kept = replace(config, timing=old.timing, disks=old.disks, disks_generation=old.disks_generation)
    actions: tuple[Action, ...] = ()
    if (config.timing, config.disks_digest) != (old.timing, old.disks_digest):
        # A longer licence than the published one would break the promise to the observers, and on other disks they do not watch.
        sentence = f"{heart.host}: new timing or other heartbeat disks take effect when the pool has been disarmed and armed again"
        actions = (Say(sentence, loud=True),)
    now = {(m.slot, m.host) for m in kept.members}
    departed = tuple(m for m in dict.fromkeys((*heart.departed, *old.members)) if (m.slot, m.host) not in now)
    return _without_strangers(replace(heart, config=kept, departed=departed), old), actions


def _without_strangers(heart: Heart, old: pool.PoolConfig) -> Heart:
    """Forget what was known of slots that have no owner any more, or another one: it would be told of the wrong host."""
    now = heart.config.members if heart.config is not None and heart.config.pool_id == old.pool_id else ()
    return _knowing_nobody(heart, frozenset(m.slot for m in now if (was := old.member_at(m.slot)) is not None and was.host == m.host))


def _knowing_nobody(heart: Heart, but: frozenset[int]) -> Heart:
    """Without anything that was known of other slots than these."""
    answers = {index: answer for index, answer in heart.questions.answers.items() if index in but}
    return replace(
        heart,
        peers={index: peer for index, peer in heart.peers.items() if index in but},
        dead={index: lives for index, lives in heart.dead.items() if index in but},
        buried=heart.buried.union(*heart.dead.values()),
        issued=tuple(c for c in heart.issued if c.slot in but),
        evictions=tuple(record for record in heart.evictions if record.slot in but),
        evicted=frozenset(pair for pair in heart.evicted if pair[0] in but),
        questions=replace(heart.questions, answers=answers),
        intent=0,
        intent_at=None,
    )


def _heard(heart: Heart, now: float, said: Statement) -> tuple[Heart, tuple[Action, ...]]:
    if heart.config is None:
        return heart, ()
    gate, drop = packet.admit(heart.gate, said, heart.config, heart.host)
    if drop is not None:
        return heart, (CountDrop(drop),)
    heart = replace(heart, gate=gate)
    if said.incarnation in heart.dead.get(said.slot, frozenset()):
        peer = membership.after_packet_of_the_condemned(heart.peers.get(said.slot, membership.Peer()), said.incarnation, now)
        heart = replace(heart, peers={**heart.peers, said.slot: peer})
        return cycles.shout(heart, said.slot, said.incarnation, said.host, "a packet")
    peer = membership.after_packet(heart.peers.get(said.slot, membership.Peer()), said, now)
    heart = replace(heart, peers={**heart.peers, said.slot: peer})
    return _live_on_their_word(heart, now, said) if said.storageless else (heart, ())


def _live_on_their_word(heart: Heart, now: float, said: Statement) -> tuple[Heart, tuple[Action, ...]]:
    """Renew the licence on the answers of all whose word is required, if this host has no storage itself."""
    config, member = heart.config, heart.member
    if config is None or member is None or heart.deadline is None or not publish.storageless(heart, config, now):
        return heart, ()
    if heart.peers[said.slot].incarnation != said.incarnation:
        return heart, ()
    questions = storageless.answered(heart.questions, said, member.slot, heart.incarnation)
    heart = replace(heart, questions=questions)
    at = storageless.evidence(
        questions, heart.required & ~(1 << member.slot), {index: peer.incarnation for index, peer in heart.peers.items()}
    )
    deadline = 0.0 if at is None else at + config.timing.licence_seconds
    if heart.released or deadline <= (heart.deadline or 0.0):
        return heart, ()
    return replace(heart, deadline=deadline), (GiveDeadline(heart.incarnation, deadline),)


def _keeper_said(heart: Heart, now: float, keeper: Keeper) -> tuple[Heart, tuple[Action, ...]]:
    first = heart.keeper is None and not heart.claimed and heart.deadline is None
    heart = replace(heart, keeper=keeper)
    mine = keeper.incarnation == heart.incarnation
    match keeper.mode:
        case keeping.Mode.LICENSED if first and now <= keeper.deadline:
            heart = replace(heart, incarnation=keeper.incarnation, resuming=True, licensed=True, deadline=keeper.deadline)
            left = keeper.deadline - now
            return heart, (Say(f"{heart.host}: going on as incarnation {keeper.incarnation:016x}, {left:.1f} s of licence left"),)
        case keeping.Mode.LICENSED | keeping.Mode.EXPIRED if first:
            why = "the licence ended before this agent came back; the watchdog resets this host"
            return replace(heart, incarnation=keeper.incarnation, phase=Phase.FENCING, message=why), ()
        case keeping.Mode.LICENSED if mine and heart.deadline is not None:
            # One that was released and still runs under its licence has not heard it.
            return replace(heart, licensed=True), (cycles.release(heart),) if heart.released else ()
        case keeping.Mode.CLOSED if heart.deadline is not None and not heart.licensed and heart.phase is Phase.ARMED:
            # It had let go of the watchdog before the licence came, and takes none before it is opened again.
            return replace(heart, phase=Phase.JOINING, deadline=None, confirmed=False, proposal=0), ()
        case keeping.Mode.EXPIRED if heart.deadline is not None and heart.phase is not Phase.FENCING:
            why = "the keeper says that the licence has ended; the watchdog resets this host"
            return replace(heart, phase=Phase.FENCING, message=why), (Say(f"{heart.host}: fencing: {why}", loud=True),)
        case keeping.Mode.OPEN | keeping.Mode.CLOSED if heart.phase is Phase.DISARMED and heart.licensed:
            # Records and certificates may name this life for ever: the next licence is for another one.
            return replace(heart, licensed=False, deadline=None, confirmed=False, spent=True), ()
    return heart, ()


def _stand(heart: Heart, now: float) -> tuple[Heart, tuple[Action, ...]]:
    """Where the host stands now, and the steps toward arming or disarming."""
    config, member = heart.config, heart.member
    if heart.phase is Phase.FENCING or heart.resuming:
        return heart, ()
    wanted = config is not None and config.enabled and member is not None and not member.excluded
    if heart.deadline is not None:
        # One whose watchdog has failed leaves as if it were asked to: nothing would reset it, so nobody may wait for that.
        wanted = wanted and not (heart.keeper is not None and heart.keeper.problem)
        if not wanted and heart.phase is Phase.ARMED:
            return replace(heart, phase=Phase.DISARMED, message=_why_disarmed(heart), proposal=0), ()
        return heart, ()
    if config is None:
        return heart, ()
    if member is None:
        return _at(heart, Phase.REFUSED, "the pool's configuration has no slot for this host"), ()
    if heart.keeper is None:
        return _at(heart, Phase.STARTING, "the keeper does not answer"), ()
    if heart.disk_problem:
        return _at(heart, Phase.REFUSED if heart.disk_refused else Phase.STARTING, heart.disk_problem), ()
    if not heart.claimed or heart.spent:
        return heart, ()  # cycles.done says what the slot is waiting for, and begins the next life
    if member.excluded and heart.phase is Phase.REFUSED and heart.keeper.problem:
        # Still refused, though excluded: excluded is what the controller makes of a host that refuses, and calling it disarmed instead
        # would undo that, and change the pool's configuration for all, every few seconds. Whether the watchdog is well again is asked on.
        return _ask_for_watchdog(heart, now, config, heart.keeper)
    if not wanted:
        release = heart.phase is not Phase.DISARMED and heart.keeper.mode is keeping.Mode.OPEN
        return _at(heart, Phase.DISARMED, _why_disarmed(heart)), (cycles.release(heart),) if release else ()
    return _toward_arming(heart, now, config, member, heart.keeper)


def _toward_arming(
    heart: Heart, now: float, config: pool.PoolConfig, member: pool.Member, keeper: Keeper
) -> tuple[Heart, tuple[Action, ...]]:
    if keeper.mode is keeping.Mode.CLOSED or keeper.problem:
        return _ask_for_watchdog(heart, now, config, keeper)
    if keeper.mode is not keeping.Mode.OPEN:
        return _at(heart, Phase.REFUSED, f"the keeper is bound to incarnation {keeper.incarnation:016x}"), ()
    evidence_at = heart.evidence_at
    if evidence_at is None or heart.no_evidence or now - evidence_at > config.timing.read_gap_limit_seconds:
        return _at(heart, Phase.JOINING, f"no proof of life on the heartbeat disk: {heart.no_evidence}"), ()
    if not heart.settled:
        # It would take away this life's number, and the next one would begin below what is left of it somewhere.
        return _at(heart, Phase.JOINING, "an older write of this host may still land on the heartbeat disk"), ()
    ready = arming.consider(arming.Me(member.slot, heart.incarnation, now), config, heart.peers, heart.dead)
    # Who has proposed the set on which the others have armed a moment before is no newcomer: they need its word from the beginning.
    joins = not heart.proposal and any(p.phase is Phase.ARMED for i, p in heart.peers.items() if ready.proposal >> i & 1)
    heart = replace(heart, proposal=ready.proposal)
    if ready.missing:
        return _at(heart, Phase.JOINING, ready.missing), ()
    deadline = evidence_at + config.timing.licence_seconds
    names = ", ".join(m.host for m in config.members if ready.proposal >> m.slot & 1)
    armed = replace(heart, phase=Phase.ARMED, message="", deadline=deadline, licensed=False, confirmed=False)
    if joins:
        # A newcomer among the armed first watches them for as long as it would have to before it may judge one.
        watch = publish.timing_values(armed, config).release_after_silence_seconds
        armed = replace(armed, barred_until=max(armed.barred_until, now + watch))
    return armed, (GiveDeadline(heart.incarnation, deadline), Say(f"{heart.host}: agreed with {names}; arming"))


def _ask_for_watchdog(heart: Heart, now: float, config: pool.PoolConfig, keeper: Keeper) -> tuple[Heart, tuple[Action, ...]]:
    if keeper.problem:
        standing = _at(heart, Phase.REFUSED, f"no usable watchdog: {keeper.problem}")
    else:
        standing = _at(heart, Phase.JOINING, "the watchdog is being opened")
    if heart.asked_open_at is not None and now - heart.asked_open_at < _ASK_AGAIN_SECONDS:
        return standing, ()
    return replace(standing, asked_open_at=now), (OpenWatchdog(config.timing.watchdog_seconds),)


def _at(heart: Heart, phase: Phase, message: str) -> Heart:
    return replace(heart, phase=phase, message=message, proposal=heart.proposal if phase is Phase.JOINING else 0)


def _why_disarmed(heart: Heart) -> str:
    if heart.member is not None and heart.member.excluded:
        return "this host is in maintenance"
    if heart.config is not None and heart.config.enabled and heart.keeper is not None and heart.keeper.problem:
        return f"no usable watchdog: {heart.keeper.problem}; the VMs of this host go on, unprotected"
    return (heart.config.disabled_reason if heart.config else "") or "the pool is disabled"
