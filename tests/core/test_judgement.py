"""What a host says about others, and when it must hold its tongue."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from quorate_core import heartbeat, publish, slot
from quorate_core.certificate import Watch
from quorate_core.eviction import Eviction
from quorate_core.heart import (
    Action,
    Configured,
    CycleDone,
    GiveDeadline,
    Heart,
    Keeper,
    KeeperSaid,
    PacketHeard,
    Pending,
    ReleaseKeeper,
    Say,
    SendPacket,
    StartCycle,
    Tick,
    VmsCounted,
)
from quorate_core.keeping import Mode
from quorate_core.licence import Cycle
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.timing import STANDARD

POOL = PoolConfig(bytes(range(16)), tuple(Member(i, f"h{i}") for i in range(3)), STANDARD)
ALL = 0b111
R_S = 59.0


def said(index: int, sequence: int, hears: int = ALL, phase: Phase = Phase.ARMED, **changes: object) -> Statement:
    """What host `index`, of incarnation 10 + index, says."""
    known = tuple(Known(i, 10 + i) for i in range(3))
    statement = Statement(f"h{index}", index, 10 + index, sequence, POOL.hash, phase, Views(hears, ALL), known)
    return replace(statement, **changes)  # type: ignore[arg-type]


def slot_of(index: int, sequence: int, hears: int = ALL, phase: Phase = Phase.ARMED, **changes: object) -> Slot:
    own = Slot(
        POOL.pool_id, bytes(16), said(index, sequence, hears, phase), STANDARD.values, True, required=ALL, disks_digest=POOL.disks_digest
    )
    return replace(own, **changes)  # type: ignore[arg-type]


def watched(index: int, at: float, **changes: object) -> Peer:
    """A peer whose slot was last seen to change at that time."""
    own = slot_of(index, 1, **changes)
    block = slot.encode(own)
    watch = Watch(10 + index, at, True, STANDARD.values, ALL, POOL.disks_digest, boot_id=own.boot_id)
    return Peer({0: block}, frozenset({0}), frozenset({0}), own, at, own.statement, at, watch)


ARMED = Heart(
    "h0", bytes(16), 10, POOL, Phase.ARMED, "", Keeper(Mode.LICENSED, 10, 1e9, "dog", "dog", 8.0), claimed=True, deadline=120.0,
    licensed=True, confirmed=True, disk_problem="", evidence_at=100.0, last_read_at=100.0, required=ALL,
    peers={1: watched(1, 100.0), 2: watched(2, 100.0)},
)  # fmt: skip


def cycles(heart: Heart, start: float, count: int, others: Iterator[dict[int, Slot]]) -> Iterator[tuple[float, Heart, tuple[Action, ...]]]:
    """Cycle after cycle, two seconds apart, each of which writes what the heart wants and reads that and the others' slots."""
    header, found = slot.encode_header(POOL.pool_id), b""
    for number in range(count):
        now = start + 2 * number
        heart, actions = heartbeat.step(replace(heart, next_cycle_at=now, deadline=now + 20), Tick(now))
        order = next(a for a in actions if isinstance(a, StartCycle))
        assert order.block is not None
        blocks = {0: order.block} | {index: slot.encode(one) for index, one in next(others).items()}
        cycle = Cycle(order.number, now, now + 0.1, now + 0.2, order.block, header, blocks, found=found or order.block)
        found = order.block
        heart, more = heartbeat.step(heart, CycleDone(now + 0.2, cycle))
        yield now, heart, (*actions, *more)


def beating(first: int = 2, hears: tuple[int, int] = (ALL, ALL), **changes: object) -> Iterator[dict[int, Slot]]:
    """The slots of the others, each of which beats on."""
    for sequence in range(first, 10_000):
        yield {1: slot_of(1, sequence, hears[0], **changes), 2: slot_of(2, sequence, hears[1], **changes)}


def without_2(first: int = 2) -> Iterator[dict[int, Slot]]:
    """h1 beats on; the slot of h2 stands still."""
    for sequence in range(first, 10_000):
        yield {1: slot_of(1, sequence), 2: slot_of(2, 1)}


def packet_of(actions: tuple[Action, ...]) -> Statement:
    return next(a.said for a in actions if isinstance(a, SendPacket))


def test_an_evicted_incarnation_gets_no_answer_from_the_moment_of_the_decision() -> None:
    heard, _ = heartbeat.step(ARMED, PacketHeard(100.0, said(2, 50)))
    _, actions = heartbeat.step(replace(heard, next_packet_at=0.0), Tick(100.1))
    assert packet_of(actions).echo_of(2, 12) == 50
    decided = replace(heard, evictions=(Eviction(2, 12, STANDARD.values),), evicted=frozenset({(2, 12)}), next_packet_at=0.0)
    _, actions = heartbeat.step(decided, Tick(100.1))
    assert packet_of(actions).echo_of(2, 12) == 0


def test_what_anybody_was_seen_to_evict_gets_no_answer_and_is_adopted() -> None:
    """Row 56."""
    record = {1: slot_of(1, 2, evictions=((2, 12),)), 2: slot_of(2, 2)}
    (_, heart, _), *_ = cycles(ARMED, 102.0, 1, iter([record]))
    assert (2, 12) in heart.evicted
    assert [(r.slot, r.incarnation, r.since) for r in heart.evictions] == [(2, 12, None)]


def test_the_evictor_may_die_the_adopter_certifies_from_its_own_record() -> None:
    """Row 56."""

    def others() -> Iterator[dict[int, Slot]]:
        yield {1: slot_of(1, 2, evictions=((2, 12),)), 2: slot_of(2, 2)}
        while True:
            yield {1: slot_of(1, 2, evictions=((2, 12),)), 2: slot_of(2, 2)}

    issued = [(now, c) for now, heart, _ in cycles(ARMED, 102.0, 40, others()) for c in heart.issued if c.evidence is Evidence.EVICTION]
    now, certificate = issued[0]
    assert (certificate.slot, certificate.incarnation) == (2, 12)
    assert now >= 104.2 + 53, "it counts from its own write, one cycle after it read the record"


def first_certificate_of_2(others: Iterator[dict[int, Slot]]) -> tuple[float, Issued] | None:
    """When this host says first that h2 is dead, and on which evidence."""
    return next(((now, c) for now, heart, _ in cycles(ARMED, 102.0, 40, others) for c in heart.issued if c.slot == 2), None)


def test_a_certificate_by_the_evictor_does_not_end_the_adopters_own_count_of_the_eviction() -> None:
    """Row 56: the evicted wrote until it was reset, so its silence alone would prove its death much later."""

    def others() -> Iterator[dict[int, Slot]]:
        for number in range(40):
            dead = (Issued(2, 12, 53.0, 53.0, Evidence.EVICTION),) if number >= 27 else ()
            yield {1: slot_of(1, 2 + number, evictions=((2, 12),), certificates=dead), 2: slot_of(2, 2 + min(number, 10))}

    found = first_certificate_of_2(others())
    assert found is not None
    now, certificate = found
    assert certificate.evidence is Evidence.EVICTION
    assert 104.2 + 53 <= now <= 104.2 + 53 + 2


def test_one_that_still_writes_is_not_certified_by_its_eviction_although_another_host_has_said_that_it_is_dead() -> None:
    def others() -> Iterator[dict[int, Slot]]:
        for number in range(40):
            dead = (Issued(2, 12, 53.0, 53.0, Evidence.EVICTION),) if number >= 20 else ()
            yield {1: slot_of(1, 2 + number, evictions=((2, 12),), certificates=dead), 2: slot_of(2, 2 + number)}

    assert first_certificate_of_2(others()) is None


def test_both_sides_of_a_split_agree_first_and_then_one_is_evicted() -> None:
    """Row 26: h2 hears nobody, and nobody hears it."""
    evicted_at, agreed_at = None, None
    others = beating(hears=(0b011, 0b100), intent=0b011)
    deaf = replace(ARMED, peers={1: watched(1, 100.0), 2: replace(watched(2, 100.0), heard_at=90.0)})
    for now, heart, actions in cycles(deaf, 102.0, 6, others):
        if agreed_at is None and heart.intent == 0b011:
            agreed_at = now
        if evicted_at is None and any(isinstance(a, Say) and "evicts h2" in a.sentence for a in actions):
            evicted_at = now
    assert agreed_at is not None
    assert evicted_at is not None
    assert evicted_at >= agreed_at + 4, "the intent stands on the disk for a full cycle before the record is written"


def test_a_host_that_had_no_storage_judges_nobody_for_a_full_r_s() -> None:
    """Row 22."""
    blind = replace(ARMED, blind_since=100.0, peers={1: watched(1, 30.0), 2: watched(2, 30.0)})
    times = [now for now, heart, _ in cycles(blind, 101.0, 45, without_2()) if heart.issued]
    assert times, "in the end it does"
    assert times[0] >= 101 + R_S
    seeing = [now for now, heart, _ in cycles(replace(blind, blind_since=None), 101.0, 45, without_2()) if heart.issued]
    assert seeing[0] <= 103, "one that has watched on for long enough says so at once"


def test_a_cycle_that_began_before_it_last_said_so_does_not_count_as_watching_again() -> None:
    blind = replace(ARMED, evidence_at=80.0, blind_since=100.0)
    own = slot_of(0, 9)
    block = slot.encode(own)
    cycle = Cycle(1, 99.5, 99.6, 100.5, block, slot.encode_header(POOL.pool_id), {0: block}, found=block)
    after, _ = heartbeat.step(replace(blind, pending=Pending(1, 99.5, own, Phase.ARMED)), CycleDone(100.6, cycle))
    assert after.blind_since == 100.0
    assert after.evidence_at == 99.5, "for its own life it does"


def test_a_host_whose_former_life_was_certified_judges_nobody_before_it_is_let_in() -> None:
    """Row 25: those who have certified it may live without storage and without asking it; their slots say so."""
    newborn = replace(
        ARMED, incarnation=99, phase=Phase.JOINING, deadline=None, licensed=False, confirmed=False,
        keeper=Keeper(Mode.OPEN, 0, 0.0, "dog", "dog", 8.0),
    )  # fmt: skip

    def judged(required: int) -> set[int]:
        still = {i: slot_of(i, 1, required=required) for i in (1, 2)}
        watch = {i: Watch(10 + i, 20.0, True, STANDARD.values, required, one.disks_digest, 1) for i, one in still.items()}
        peers = {i: Peer({0: slot.encode(one)}, frozenset({0}), frozenset({0}), one, 20.0, watch=watch[i]) for i, one in still.items()}
        own = slot_of(0, 9, statement=said(0, 9, phase=Phase.JOINING, incarnation=99))
        blocks = {0: slot.encode(own)} | {i: slot.encode(one) for i, one in still.items()}
        before = replace(newborn, peers=peers, pending=Pending(1, 102.0, own, Phase.JOINING))
        cycle = Cycle(1, 102.0, 102.1, 102.2, blocks[0], slot.encode_header(POOL.pool_id), blocks, found=blocks[0])
        after, _ = heartbeat.step(before, CycleDone(102.3, cycle))
        return {c.slot for c in after.issued}

    assert judged(ALL) == {1, 2}, "after a power cut it certifies those that do not come back"
    assert judged(0b110) == set()


def test_the_dead_are_asked_no_more_once_it_stands_in_the_own_slot_for_good() -> None:
    """Row 21."""
    silent = {1: watched(1, 100.0), 2: watched(2, 30.0)}
    certified = replace(ARMED, peers=silent, issued=(Issued(2, 12, 59.0, 59.0),), dead={2: frozenset({12})})
    (_, heart, _), *_ = cycles(certified, 102.0, 1, without_2())
    assert heart.required == 0b011
    unsettled = replace(certified, settled_at=103.0)
    wanted = [after.required for _, after, _ in cycles(unsettled, 102.0, 2, without_2())]
    assert wanted == [ALL, 0b011], "an older slot may land over the new one as long as a failed write is on its way"


def test_whoever_is_back_is_asked_again_from_the_first_slot_that_may_say_so() -> None:
    silent = {1: watched(1, 100.0), 2: watched(2, 30.0)}
    certified = replace(ARMED, peers=silent, issued=(Issued(2, 4, 59.0, 59.0),), dead={2: frozenset({4})}, required=0b011)
    wanted = [after.required for _, after, _ in cycles(certified, 102.0, 2, beating())]
    assert wanted == [0b011, ALL]


def test_a_new_life_says_of_its_own_former_one_that_it_has_waited_for_its_end() -> None:
    """Row 38: where nobody else may say so, the pool would wait for it for ever."""
    former = slot_of(0, 9)
    fresh = Heart("h0", b"b" * 16, 99, POOL, keeper=Keeper(Mode.CLOSED), disk_problem="")
    others = {1: slot.encode(slot_of(1, 1, phase=Phase.JOINING)), 2: slot.encode(slot_of(2, 1, phase=Phase.JOINING))}
    for number in range(40):
        at = 100.0 + 2 * number
        cycle = Cycle(number, at, at + 0.1, at + 0.2, None, slot.encode_header(POOL.pool_id), {0: slot.encode(former), **others})
        fresh, _ = heartbeat.step(replace(fresh, pending=Pending(number, at, None, Phase.STARTING)), CycleDone(at + 0.3, cycle))
        if fresh.claimed:
            break
    assert fresh.claimed
    assert [(c.slot, c.incarnation, c.silent_seconds >= R_S) for c in fresh.issued] == [(0, 10, True)]


def test_an_empty_disk_is_not_initialised_under_a_licence() -> None:
    """Row 39: it may be another one than that on which the others watch this host."""
    empty = Cycle(1, 102.0, 102.1, 102.2, None, bytes(slot.BLOCK_BYTES), {i: bytes(slot.BLOCK_BYTES) for i in range(3)}, blank=(0,))
    for deadline, header in ((120.0, None), (None, slot.encode_header(POOL.pool_id))):
        before = replace(
            ARMED, deadline=deadline, phase=Phase.ARMED if deadline else Phase.JOINING, pending=Pending(1, 102.0, None, Phase.ARMED)
        )
        after, _ = heartbeat.step(before, CycleDone(102.3, empty))
        _, actions = heartbeat.step(replace(after, next_cycle_at=103.0), Tick(103.0))
        assert next(a for a in actions if isinstance(a, StartCycle)).header == header


def test_after_a_partition_one_reconfiguration_runs_at_a_time() -> None:
    """Row 30: a link that comes and goes does not take one host after the other."""
    evicting = replace(ARMED, evictions=(Eviction(2, 12, STANDARD.values, ALL),), evicted=frozenset({(2, 12)}))
    others = beating(hears=(0b010, 0b100), intent=0b001)
    for _, heart, _ in cycles(evicting, 102.0, 10, others):
        assert (heart.intent, len(heart.evictions)) == (0, 1)


def resumed(own: Slot) -> Heart:
    """A pulse that was restarted under a licence, when it has read its slot."""
    fresh = Heart("h0", bytes(16), 77, POOL)
    heart, _ = heartbeat.step(fresh, KeeperSaid(100.0, Keeper(Mode.LICENSED, 10, 119.0, "dog", "dog", 8.0)))
    heart, actions = heartbeat.step(heart, Tick(100.1))
    order = next(a for a in actions if isinstance(a, StartCycle))
    blocks = {0: slot.encode(own), 1: slot.encode(slot_of(1, 5)), 2: slot.encode(slot_of(2, 5))}
    cycle = Cycle(order.number, 100.1, 100.2, 100.3, None, slot.encode_header(POOL.pool_id), blocks)
    return heartbeat.step(heart, CycleDone(100.4, cycle))[0]


def test_a_restarted_pulse_carries_its_records_on_and_judges_nobody_for_a_full_r_s() -> None:
    """Rows 6 and 56."""
    heart = resumed(slot_of(0, 9, evictions=((2, 12),), certificates=(Issued(1, 4, 59.0, 59.0),)))
    assert (heart.phase, heart.incarnation, heart.deadline) == (Phase.ARMED, 10, 119.0)
    assert [(r.slot, r.incarnation, r.since) for r in heart.evictions] == [(2, 12, None)]
    assert (heart.issued, heart.blind_since) == ((Issued(1, 4, 59.0, 59.0),), 100.4)
    counted = [(now, r.since) for now, after, _ in cycles(heart, 101.0, 4, beating(6)) for r in after.evictions]
    assert [since for _, since in counted] == [None, None, None, 107.2], "from a cycle that began when no older write could land any more"
    barred = [after.barred_until for _, after, _ in cycles(heart, 101.0, 2, beating(6))]
    assert barred[-1] >= 101 + R_S


def test_a_restarted_pulse_calls_nobody_silent_whom_the_pulse_before_heard_for_t_n_and_answers_nobody() -> None:
    """Row 6: a restart beside a link that is silent for less than T_n is no partition."""
    mine = said(0, 9, hears=0b011)
    heart = resumed(slot_of(0, 9, statement=mine))
    for at, heard in ((100.5, 0b011), (108.3, 0b011), (108.5, 0b001)):
        words = publish.statement(heart, POOL, POOL.members[0], at)
        assert (words.views.network, words.echo_of(1, 11)) == (heard, 0)
    reborn = resumed(slot_of(0, 9, statement=replace(mine, known=(Known(1, 99),))))
    assert publish.statement(reborn, POOL, POOL.members[0], 100.5).views.network == 0b001, "another incarnation was never heard"
    after, _ = heartbeat.step(heart, PacketHeard(101.0, said(1, 500)))
    assert publish.statement(after, POOL, POOL.members[0], 109.1).views.network == 0b001, "from its first packet on its packets count"


def test_a_host_whose_watchdog_has_failed_says_first_that_nobody_may_rely_on_it_and_does_not_arm_again() -> None:
    """Rule 27: nothing would reset it. Its VMs go on, and their host is never certified dead."""
    failed = Keeper(Mode.LICENSED, 10, 1e9, "dog", "dog", 8.0, problem="dog has taken no pet for 10 s")
    heart, _ = heartbeat.step(ARMED, KeeperSaid(101.0, failed))
    assert (heart.phase, "unprotected" in heart.message) == (Phase.DISARMED, True)
    released = [(now, any(isinstance(a, ReleaseKeeper) for a in actions)) for now, _, actions in cycles(heart, 102.0, 2, beating())]
    assert released[0] == (102.0, True), "with the first cycle that has carried it"
    *_, (_, heart, _) = cycles(heart, 102.0, 1, beating())
    heart, _ = heartbeat.step(heart, KeeperSaid(103.0, replace(failed, mode=Mode.OPEN)))
    assert heart.spent, "this life never arms again"
    heart = replace(heart, spent=False)  # as the next one, which is told by the same keeper
    for now in (104.0, 106.0, 108.0):
        heart, actions = heartbeat.step(replace(heart, pending=None, next_cycle_at=1e9, evidence_at=now), Tick(now))
        assert (heart.phase, heart.deadline) == (Phase.REFUSED, None)
        assert not any(isinstance(a, GiveDeadline) for a in actions)


def test_fencing_is_final_also_for_the_pulse_that_comes_after() -> None:
    fencing = slot_of(0, 9, phase=Phase.FENCING, stopped=True)
    heart = resumed(fencing)
    assert heart.phase is Phase.FENCING
    assert not any(isinstance(a, GiveDeadline) for a in heartbeat.step(heart, Tick(101.0))[1])


def test_one_that_was_disarmed_before_it_could_read_the_record_is_not_certified_by_it() -> None:
    """Row 53: it lives on without a licence, and nothing is bound to reset it."""
    record = Eviction(2, 12, STANDARD.values, ALL, since=40.0)
    evicting = replace(ARMED, evictions=(record,), evicted=frozenset({(2, 12)}))

    def others(phase: Phase) -> Iterator[dict[int, Slot]]:
        for sequence in range(2, 10_000):
            yield {1: slot_of(1, sequence), 2: slot_of(2, 5, phase=phase)}

    (_, gone, _), *_ = cycles(evicting, 102.0, 1, others(Phase.DISARMED))
    assert (gone.evictions, gone.issued, gone.evicted) == ((), (), frozenset({(2, 12)}))
    (_, later, _), *_ = cycles(gone, 104.0, 1, others(Phase.DISARMED))
    assert later.evicted == frozenset(), "it may arm again in the same life"


@pytest.mark.parametrize("reset", [False, True])
def test_one_that_is_in_another_life_without_a_reset_is_not_certified_by_its_eviction(*, reset: bool) -> None:
    """It was released before it could read the record, and its agent was started again; after a reset the record goes on to count."""
    boot = slot_of(2, 5).boot_id
    record = Eviction(2, 12, STANDARD.values, ALL, since=40.0, boot_id=boot)
    evicting = replace(ARMED, evictions=(record,), evicted=frozenset({(2, 12)}))

    def others() -> Iterator[dict[int, Slot]]:
        for sequence in range(2, 10_000):
            born = slot_of(2, 50, phase=Phase.JOINING)
            born = replace(born, statement=replace(born.statement, incarnation=99), boot_id=b"n" * 16 if reset else boot)
            yield {1: slot_of(1, sequence), 2: born}

    *_, (_, after, _) = cycles(evicting, 102.0, 40, others())
    assert [c.incarnation for c in after.issued] == ([12] if reset else [])


def test_an_evicted_host_with_vms_left_goes_on_writing_so_that_a_watchdog_that_does_not_bite_is_seen() -> None:
    """Row 46."""
    record = {1: slot_of(1, 2, evictions=((0, 10),)), 2: slot_of(2, 2)}
    (_, heart, _), *_ = cycles(ARMED, 102.0, 1, iter([record]))
    assert heart.phase is Phase.FENCING
    after, actions = heartbeat.step(heart, Tick(104.0))
    written = next(a.block for a in actions if isinstance(a, StartCycle))
    assert written is not None
    assert (slot.decode(written).statement.phase, slot.decode(written).stopped) == (Phase.FENCING, False)
    gone, _ = heartbeat.step(replace(after, pending=None, next_cycle_at=0.0), VmsCounted(105.0, 0))
    _, actions = heartbeat.step(gone, Tick(105.1))
    written = next(a.block for a in actions if isinstance(a, StartCycle))
    assert written is not None
    assert slot.decode(written).stopped


def test_an_evicted_host_that_does_not_die_is_an_alarm_that_is_said_once_and_stands_until_it_is_silent() -> None:
    """Row 46. R_e is 53 s; h2 writes on for 90 s."""
    record = Eviction(2, 12, STANDARD.values, ALL, None, POOL.disks_digest)
    heart = replace(ARMED, evictions=(record,), evicted=frozenset({(2, 12)}))
    alarmed, loud, last = [], [], heart
    for now, last, actions in cycles(heart, 102.0, 45, beating(phase=Phase.FENCING)):
        loud += [a.sentence for a in actions if isinstance(a, Say) and a.sentence.startswith("ALARM")]
        alarmed += [now] if last.alarms else []
    assert len(loud) == 1
    assert "h2: it still gives signs of life" in loud[0]
    assert alarmed == [now for now in alarmed if now >= 102.0 + 53]
    assert alarmed[-1] == 190.0, "it is shown for as long as it lasts"
    assert last.issued == ()
    *_, (_, silent, _) = cycles(last, 192.0, 10, without_2(60))
    assert (silent.alarms, [c.slot for c in silent.issued]) == ((), [2])


@pytest.mark.parametrize(("proposal", "waits"), [(ALL, 0.0), (0, R_S)], ids=["founder", "newcomer"])
def test_who_founds_the_pool_judges_at_once_and_who_joins_it_watches_it_first(proposal: int, waits: float) -> None:
    """The others have armed on the founder's own proposal: they need its word from the beginning."""
    before = replace(
        ARMED, phase=Phase.JOINING, proposal=proposal, deadline=None, licensed=False, confirmed=False, no_evidence="", next_cycle_at=1e9,
        settled=True, keeper=Keeper(Mode.OPEN, 0, 0.0, "dog", "dog", 8.0),
    )  # fmt: skip
    after, _ = heartbeat.step(before, Tick(100.5))
    assert after.phase is Phase.ARMED, after.message
    assert max(0.0, after.barred_until - 100.5) == waits
    unsettled, _ = heartbeat.step(replace(before, settled=False), Tick(100.5))
    assert (unsettled.phase, unsettled.message) == (Phase.JOINING, "an older write of this host may still land on the heartbeat disk")
    doubtful, _ = heartbeat.step(replace(before, no_evidence="h1 has evicted this host"), Tick(100.5))
    assert (doubtful.phase, "h1 has evicted this host" in doubtful.message) == (Phase.JOINING, True), (
        "the last cycle counts, not an older one"
    )


def test_a_host_says_that_it_is_armed_only_when_no_older_write_can_land_over_that() -> None:
    """The write that lands would say that it is joining, and nobody could certify it."""
    licensed = replace(ARMED, licensed=True, confirmed=False, settled=False)
    assert publish.phase(licensed) is Phase.JOINING
    assert publish.phase(replace(licensed, settled=True)) is Phase.ARMED
    assert publish.phase(replace(licensed, confirmed=True)) is Phase.ARMED, "once it stands there it stays"
    assert publish.phase(replace(licensed, settled=True, licensed=False)) is Phase.JOINING


@pytest.mark.parametrize("error", ["EIO", ""], ids=["failed", "not carried"])
def test_after_a_cycle_that_proved_nothing_nothing_is_settled(error: str) -> None:
    heart, actions = heartbeat.step(replace(ARMED, settled=True, next_cycle_at=0.0), Tick(100.5))
    order = next(a for a in actions if isinstance(a, StartCycle))
    cycle = Cycle(order.number, 100.5, 100.5, 100.6, order.block, slot.encode_header(POOL.pool_id), {0: bytes(4096)}, error=error)
    assert heartbeat.step(heart, CycleDone(100.6, cycle))[0].settled is False


def test_the_record_of_one_who_is_certified_dead_is_neither_obeyed_nor_adopted() -> None:
    """It may stand on one disk only, which comes back when all is over. Only that life reckoned with it."""
    dead = {1: slot_of(1, 2, evictions=((0, 10), (2, 12))), 2: slot_of(2, 2, certificates=(Issued(1, 11, 59.0, 59.0),))}
    (_, heart, _), *_ = cycles(ARMED, 102.0, 1, iter([dead]))
    assert (heart.phase, heart.evicted, heart.evictions) == (Phase.ARMED, frozenset(), ())
    living = {1: slot_of(1, 2, evictions=((0, 10),)), 2: slot_of(2, 2, certificates=(Issued(1, 99, 59.0, 59.0),))}
    (_, heart, _), *_ = cycles(ARMED, 102.0, 1, iter([living]))
    assert heart.phase is Phase.FENCING


def test_the_dead_stay_buried_when_their_host_has_left_the_pool() -> None:
    """What they had recorded may come to light on a disk that was away, under an owner of the slot that has nothing to do with it."""
    heart = replace(ARMED, dead={1: frozenset({11})})
    left, _ = heartbeat.step(heart, Configured(101.0, replace(POOL, members=(POOL.members[0], POOL.members[2]))))
    back, _ = heartbeat.step(left, Configured(101.5, POOL))
    assert (back.dead.get(1), back.buried) == (None, {11})
    (_, after, _), *_ = cycles(back, 102.0, 1, iter([{1: slot_of(1, 2, evictions=((0, 10),)), 2: slot_of(2, 2)}]))
    assert after.phase is Phase.ARMED


def test_a_host_is_confirmed_only_by_a_cycle_over_which_no_older_write_can_land() -> None:
    fresh = replace(ARMED, confirmed=False, settled=True)
    order = next(a for a in heartbeat.step(replace(fresh, next_cycle_at=0.0), Tick(100.5))[1] if isinstance(a, StartCycle))
    assert order.block is not None
    assert slot.decode(order.block).statement.phase is Phase.ARMED
    for failed_at, confirmed in ((None, True), (99.0, False)):
        heart, _ = heartbeat.step(replace(fresh, next_cycle_at=0.0), Tick(100.5))
        blocks = {0: order.block, 1: slot.encode(slot_of(1, 5)), 2: slot.encode(slot_of(2, 5))}
        header = slot.encode_header(POOL.pool_id)
        cycle = Cycle(order.number, 100.5, 100.5, 100.6, order.block, header, blocks, found=order.block, failed_at=failed_at)
        assert heartbeat.step(heart, CycleDone(100.6, cycle))[0].confirmed is confirmed
