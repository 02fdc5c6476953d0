"""The public planning problems: never above the known upper bound, never below the greedy bound."""

import csv
from pathlib import Path

import pytest

from quorate_planner import load, plan_problem

DATA = Path(__file__).parents[3] / "shared" / "data" / "planner"
NAMES = [
    "h16_v160_l45_s1",
    "h16_v160_l60_s1",
    "h16_v400_l45_s1",
    "h16_v400_l60_s1",
    "h32_v400_l45_s1",
    "h32_v400_l60_s1",
    "h4_v40_l45_s1",
    "h4_v40_l60_s1",
    "h64_v1000_l45_s1",
    "h64_v1000_l60_s1",
    "h8_v80_l45_s1",
    "h8_v80_l60_s1",
    "P1_bigvm_10hosts",
    "P1b_bigvm_9hosts",
    "P4_dense_host",
    "P5_mixed_sizes",
    "U1_simultaneous_gap",
    "G1_greedy_k1",
]
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="the planning problems (shared/data/planner) are not beside this checkout")


@needs_data
@pytest.mark.parametrize("name", NAMES)
def test_a_public_problem_is_answered_between_the_known_bounds(name: str) -> None:
    known = _reference()[name]
    plan = plan_problem(load((DATA / f"{name}.json").read_bytes()))
    assert int(known["greedy_volume_bound_at_least"]) <= plan.lower <= plan.upper <= int(known["upper_bound"])
    assert plan.lower <= int(known["upper_bound"])
    assert plan.exact == (plan.lower == plan.upper)


@needs_data
def test_every_public_problem_is_in_the_list() -> None:
    assert set(_reference()) == set(NAMES) == {path.stem for path in DATA.glob("*.json")}


def _reference() -> dict[str, dict[str, str]]:
    with (DATA / "reference.csv").open(newline="") as file:
        return {row["problem"]: row for row in csv.DictReader(file)}
