"""The intent round: nobody is evicted before those who are to live agree, and nobody who may simply be dead."""

from dataclasses import replace

from quorate_core import clique, partition
from quorate_core.partition import Choice
from quorate_core.slot import Slot
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.timing import STANDARD


def seat(index: int, hears: int, intent: int = 0, weight: int = 0, required: int = 0b1111) -> Slot:
    """The slot of host `index`, which hears the hosts of that set; incarnation 10 + index."""
    known = tuple(Known(i, 10 + i) for i in clique.members(hears | 1 << index))
    said = Statement(f"h{index}", index, 10 + index, 5, bytes(32), Phase.ARMED, Views(hears | 1 << index, 0b1111), known)
    return Slot(bytes(range(16)), bytes(16), said, STANDARD.values, True, weight=weight, required=required, intent=intent)


def split(intent_01: int = 0, intent_23: int = 0) -> dict[int, Slot]:
    """0 and 1 hear each other, 2 and 3 hear each other."""
    sides = {0: (0b0011, intent_01), 1: (0b0011, intent_01), 2: (0b1100, intent_23), 3: (0b1100, intent_23)}
    return {index: seat(index, hears, intent) for index, (hears, intent) in sides.items()}


AGREED = split(0b0011, 0b0011)


def test_where_all_hear_all_nothing_is_decided() -> None:
    assert partition.choose(0, {i: seat(i, 0b111) for i in range(3)}, 0, 0) == Choice()


def test_two_of_which_one_has_taken_the_other_out_of_its_pool_are_not_cut_off_from_each_other() -> None:
    """h0 has left the configuration, which h1 has heard and h2 has not: no healthy host is to be evicted for that."""
    seats = {0: seat(0, 0b101), 1: seat(1, 0b100, required=0b110), 2: seat(2, 0b011)}
    assert partition.choose(2, seats, 0, 0b111) == Choice()
    seats[1] = seat(1, 0b100)
    assert partition.choose(2, seats, 0, 0b111).intent == 0b101


def test_a_host_alone_has_nothing_to_decide() -> None:
    assert partition.choose(0, {0: seat(0, 1)}, 0, 0) == Choice()


def test_first_the_intent_is_published_and_nobody_evicted() -> None:
    choice = partition.choose(0, split(), 0, 0b1111)
    assert (choice.intent, choice.evict) == (0b0011, ())
    assert "not yet on the disk" in choice.waiting


def test_all_who_are_to_live_must_be_of_the_same_intent() -> None:
    """Row 31."""
    choice = partition.choose(0, {**AGREED, 1: seat(1, 0b0011, 0)}, 0b0011, 0b1111)
    assert (choice.evict, choice.waiting) == ((), "h1: not yet of the same intent")


def test_nobody_is_evicted_while_it_wants_to_live_itself() -> None:
    """Row 32: views read at different moments."""
    choice = partition.choose(0, split(0b0011, 0b1100), 0b0011, 0b1111)
    assert (choice.evict, choice.waiting) == ((), "h2, h3: of another intent")


def test_then_the_others_are_evicted() -> None:
    """Row 26."""
    assert partition.choose(0, AGREED, 0b0011, 0b1111).evict == (2, 3)


def test_one_whose_slot_stands_still_is_left_to_the_count_of_its_silence() -> None:
    choice = partition.choose(0, AGREED, 0b0011, 0b0111)
    assert (choice.evict, choice.waiting) == ((), "h3: no sign of life since the intent was published")


def test_the_loser_evicts_nobody_and_agrees() -> None:
    choice = partition.choose(2, AGREED, 0b0011, 0b1111)
    assert (choice.intent, choice.evict) == (0b0011, ())


def test_one_that_hears_but_is_not_heard_is_not_connected() -> None:
    """Row 28."""
    seated = {0: seat(0, 0b111, 0b110), 1: seat(1, 0b110, 0b110), 2: seat(2, 0b110, 0b110)}
    assert partition.choose(1, seated, 0b110, 0b111).evict == (0,)


def test_one_that_means_an_earlier_life_of_the_other_is_not_connected_with_it() -> None:
    reborn = seat(1, 0b11)
    reborn = replace(reborn, statement=replace(reborn.statement, incarnation=99, known=(Known(0, 10), Known(1, 99))))
    assert partition.links({0: seat(0, 0b11), 1: reborn}) == {0: 0, 1: 0}


def test_weight_counts_before_the_number_of_hosts() -> None:
    seated = {0: seat(0, 0b011), 1: seat(1, 0b011), 2: seat(2, 0b100, weight=1)}
    assert partition.choose(2, seated, 0, 0).intent == 0b100
