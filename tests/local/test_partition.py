"""The demo's network splits: how a wish is read, and which side must live."""

import pytest

from quorate_local import partition, workload
from quorate_local.problem import Problem

SLOTS = {"h1": 0, "h2": 1, "h3": 2, "h4": 3}


@pytest.mark.parametrize(
    ("text", "splits"),
    [
        ("none", ()),
        ("one", ((3, 1),)),
        ("both", ((3, 1), (2, 2))),
        ("3:1", ((3, 1),)),
        ("1:3", ((1, 3),)),
        ("2:1:1", ((2, 1, 1),)),
    ],
)
def test_a_wish_for_splits_is_read(text: str, splits: tuple[tuple[int, ...], ...]) -> None:
    assert partition.parse(text, 4) == splits


@pytest.mark.parametrize("text", ["", "4", "3:2", "4:0", "5:-1", "three:one", "all"])
def test_a_wish_that_does_not_fit_the_hosts_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(Problem, match=r"--split .*add up to 4 hosts, such as 3:1"):
        partition.parse(text, 4)


def test_the_largest_side_lives_also_without_the_lowest_slot() -> None:
    living, lost = partition.divide((1, 3), SLOTS, ["h1", "h2", "h3", "h4"])
    assert (living, lost) == ({"h2", "h3", "h4"}, {"h1"})
    assert partition.why((living, lost), SLOTS) == "h2, h3, h4 live on: the largest set of hosts that all hear each other"


def test_of_equal_sides_the_one_with_the_lowest_slot_lives() -> None:
    living, lost = partition.divide((2, 2), SLOTS, ["h1", "h2", "h3", "h4"])
    assert (living, lost) == ({"h1", "h4"}, {"h2", "h3"})
    assert "the one with the lowest slot, 0 (h1)" in partition.why((living, lost), SLOTS)


def test_every_host_is_on_exactly_one_side_and_the_first_side_is_a_largest() -> None:
    for sizes in ((2, 1, 1), (1, 1, 1, 1), (1, 2, 1)):
        sides = partition.divide(sizes, SLOTS, ["h4", "h1", "h3", "h2"])
        assert sorted(host for side in sides for host in side) == sorted(SLOTS)
        assert sorted(map(len, sides)) == sorted(sizes)
        assert len(sides[0]) == max(sizes)


def test_a_pool_that_is_to_lose_two_hosts_at_once_gets_the_memory_for_it() -> None:
    vms = workload.make_vms(14)
    one, two = workload.host_memory_gib(vms, 4), workload.host_memory_gib(vms, 4, partition.most_lost([(3, 1), (2, 2)]))
    assert two * 2 > sum(vm.memory_gib for vm in vms) > one * 2 * 0.9
    assert partition.most_lost([]) == 0
