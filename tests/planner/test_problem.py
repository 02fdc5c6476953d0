"""The door for bare problems: every wrong field is named, and odd but possible pools get a sensible answer."""

import json
from typing import Any

import pytest

from quorate_planner import ProblemError, load, plan_json, plan_problem

GOOD: dict[str, Any] = {
    "hosts": [{"name": "a", "free": 8}, {"name": "b", "free": 8}],
    "vms": [{"name": "v", "size": 4, "host": "a"}, {"name": "w", "size": 2, "host": None, "allowed": ["a", "b"]}],
    "hostFailuresToTolerate": 1,
}


def changed(*path: Any, to: Any) -> bytes:
    document = json.loads(json.dumps(GOOD))
    place = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "problem: must be an object, is a list"),
        (b'{"hosts": []}', "'vms' is missing"),
        (b'{"hosts": [], "hosts": [], "vms": []}', "'hosts' is given twice"),
        (changed("hosts", 0, "free", to=-1), "hosts[0].free: must not be negative, is -1"),
        (changed("hosts", 0, "free", to=1.5), "hosts[0].free: must be a whole number"),
        (changed("hosts", 0, "free", to=True), "hosts[0].free: must be a whole number"),
        (changed("hosts", 0, "free", to=1 << 70), "host a: free: must be from 0 to 2^62"),
        (changed("hosts", 0, "name", to="b"), "hosts: the name 'b' is used twice"),
        (changed("hosts", 0, "name", to=None), "hosts[0].name: must be a name, is null"),
        (changed("hosts", 0, "fre", to=8), "hosts[0]: there is no field 'fre'"),
        (changed("hosts", to={}), "hosts: must be a list, is an object"),
        (changed("vms", 0, "size", to=0), "VM v: size: must be from 1"),
        (changed("vms", 0, "size", to=-4), "vms[0].size: must not be negative, is -4"),
        (changed("vms", 0, "size", to="4Gi"), "vms[0].size: must be a whole number, is the text '4Gi'"),
        (changed("vms", 0, "name", to="w"), "vms: the name 'w' is used twice"),
        (changed("vms", 0, "host", to="c"), "VM v: host: there is no host 'c'"),
        (changed("vms", 1, "allowed", to=["a", "d"]), "VM w: allowed: there is no host 'd'"),
        (changed("vms", 1, "allowed", to=["a", 3]), "vms[1].allowed[1]: must be a name"),
        (changed("hostFailuresToTolerate", to=-1), "hostFailuresToTolerate: must not be negative, is -1"),
    ],
)
def test_bad_input_is_answered_with_the_field_and_what_is_wrong(text: bytes, words: str) -> None:
    with pytest.raises(ProblemError) as caught:
        load(text)
    assert words in str(caught.value)


def test_the_json_of_a_plan_has_the_documented_fields() -> None:
    shown = plan_json(plan_problem(load(json.dumps(GOOD))), 0.25)
    assert shown == {
        "pool": "problem",
        "hosts": 2,
        "protectedVMs": 2,
        "hostFailuresToTolerate": 1,
        "planExists": True,
        "overcommitted": False,
        "maxHostFailuresToTolerate": {"lower": 1, "upper": 1, "exact": True},
        "witness": {"failedHosts": ["a", "b"], "unplaceable": ["v", "w"], "reason": shown["witness"]["reason"]},
        "placements": {"a": {"v": "b"}},
        "elapsedSeconds": 0.25,
    }
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize(
    ("hosts", "vms", "lower", "upper", "exists"),
    [
        ([], [], 0, 0, False),
        ([5, 5, 5], [], 3, 3, True),
        ([], [(4, None)], 0, 0, False),
        ([0], [(4, 0)], 0, 0, False),
        ([3, 3], [(4, 0)], 0, 0, False),
        ([9], [(4, None)], 0, 0, False),
        ([9, 9], [(4, None)], 1, 1, True),
        ([9, 9, 9, 9], [(4, 0)], 3, 3, True),
        ([9, 9, 9], [(4, 0), (1 << 40, 1)], 0, 0, False),
        ([9], [(1, 0)], 0, 0, False),
    ],
)
def test_odd_pools_have_a_sensible_answer(
    hosts: list[int], vms: list[tuple[int, int | None]], lower: int, upper: int, exists: bool
) -> None:
    document = {
        "hosts": [{"name": f"h{i}", "free": free} for i, free in enumerate(hosts)],
        "vms": [{"name": f"v{i}", "size": size, "host": None if home is None else f"h{home}"} for i, (size, home) in enumerate(vms)],
    }
    found = plan_problem(load(json.dumps(document)))
    assert (found.lower, found.upper, found.exact, found.plan_exists) == (lower, upper, True, exists)


def test_waiting_vms_without_a_place_mean_no_plan_even_for_a_wish_of_zero() -> None:
    document = {"hosts": [{"name": "a", "free": 3}], "vms": [{"name": "v", "size": 4, "host": None}], "hostFailuresToTolerate": 0}
    found = plan_problem(load(json.dumps(document)))
    assert not found.plan_exists
    assert not found.waiting_placed
    assert found.witness is not None
    assert (found.witness.failed_hosts, found.witness.unplaceable) == ((), ("v",))
    assert "wait" in found.witness.reason


def test_five_hundred_different_sizes_on_forty_hosts_stay_within_bounded_work() -> None:
    sizes = [1_000_003 * (i % 500 + 1) + 7919 * i for i in range(1000)]
    document = {
        "hosts": [{"name": f"h{i}", "free": 9_000_000_000 + 30_000_000 * i} for i in range(40)],
        "vms": [{"name": f"v{i}", "size": size, "host": f"h{i % 40}"} for i, size in enumerate(sizes)],
    }
    found = plan_problem(load(json.dumps(document)))
    assert 1 <= found.lower <= found.upper < 40


def test_a_wish_beyond_the_hosts_is_no_plan_and_no_error() -> None:
    found = plan_problem(load(changed("hostFailuresToTolerate", to=7)))
    assert (found.host_failures_to_tolerate, found.plan_exists, found.overcommitted) == (7, False, True)
    assert found.upper == 1


def test_a_vm_that_may_run_nowhere_can_never_restart() -> None:
    found = plan_problem(load(changed("vms", 0, "allowed", to=[])))
    assert (found.lower, found.upper, found.exact) == (0, 0, True)
    assert found.witness is not None
    assert found.witness.unplaceable == ("v",)
