"""Which of two slots or packets is the later one, whatever could be read when a life began."""

from hypothesis import given
from hypothesis import strategies as st

from quorate_core import numbers
from quorate_core.copies import is_later
from quorate_core.slot import Slot
from quorate_core.statement import Phase, Statement
from quorate_core.timing import STANDARD

READ = st.lists(st.integers(0, 2**64 - 1), max_size=3)
CLOCK = st.floats(0, 1e9)


def written(number: int, boot: bytes) -> Slot:
    said = Statement("a", 0, 7, number, bytes(32), Phase.ARMED)
    return Slot(bytes(16), boot, said, STANDARD.values)


@given(READ, READ, CLOCK, st.floats(0.002, 1e9))
def test_within_a_boot_whoever_begins_later_is_later_whatever_both_have_read(
    earlier: list[int], later: list[int], at: float, after: float
) -> None:
    """Row 6: the third start of an agent does not read the one disk that the second has written."""
    one, other = numbers.first(earlier, at), numbers.first(later, at + after)
    assert is_later(written(other, b"b"), written(one, b"b"))
    assert not is_later(written(one, b"b"), written(other, b"b"))
    assert numbers.in_boot(numbers.following(one, at + after)) > numbers.in_boot(one)


@given(st.lists(st.integers(0, 2**62), min_size=1, max_size=3), CLOCK, CLOCK)
def test_a_life_begins_above_all_that_it_reads_and_its_numbers_rise(read: list[int], at: float, later: float) -> None:
    first = numbers.first(read, at)
    assert max(read) < first < 2**64
    number = first
    for _ in range(3):
        number, before = numbers.following(number, min(at, later)), number
        assert number > before, "also when nothing ticks between two of them"
    assert is_later(written(first, b"c"), written(max(read), b"b"))
