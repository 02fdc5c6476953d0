"""The bench measures what it says: the same pools each time, targets judged by their numbers, charts and a page that can be read."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import change, page, planner, pools
from quorate_planner import Answer

pytest.importorskip("ortools", reason="OR-Tools is not installed: there is little to measure without it")


def quiet(_: str) -> None:
    pass


def test_a_seed_gives_the_same_pool_again_and_another_seed_another() -> None:
    assert pools.pool(8, 80, 45, 1) == pools.pool(8, 80, 45, 1)
    assert pools.pool(8, 80, 45, 1) != pools.pool(8, 80, 45, 2)


@pytest.mark.parametrize("load_percent", planner.LOADS_PERCENT)
def test_a_pool_is_filled_to_its_load_and_no_host_beyond_its_memory(load_percent: int) -> None:
    problem = pools.pool(16, 160, load_percent, 1, limited_percent=20)
    used, free = sum(vm.size for vm in problem.vms), sum(host.free for host in problem.hosts)
    assert len(problem.vms) >= 155
    assert abs(100 * used / (used + free) - load_percent) < 3
    assert min(host.free for host in problem.hosts) >= 0
    assert 10 < sum(vm.allowed is not None for vm in problem.vms) < 60
    assert all(vm.allowed is None or vm.host in vm.allowed for vm in problem.vms)


def test_a_missed_target_is_said_to_be_missed() -> None:
    good = planner.Drawn(16, 160, 45, 0, 0, 0.1)
    wide = planner.Drawn(64, 1000, 45, 2, 2, 10.0)
    met = {row.what: row.met for row in planner.random_rows([good, wide])}
    assert met["random pools closed in 10 s"] is False
    assert met["widest bracket of a random pool"] is False
    assert met["full maximum, 16 hosts / 160 VMs"] is True
    assert met["64 hosts / 1,000 VMs within 1 of the upper in 1 s"] is False
    assert all(row.met for row in planner.random_rows([good]))
    slow = [change.Answered("start", Answer.YES, 0.02)] * 10
    assert [row.met for row in change.rows(slow, slow)] == [False, True, True]
    unproven = [change.Answered("start", Answer.NOT_PROVEN, 0.2)] * 10
    assert [row.met for row in change.rows(slow, unproven)] == [False, False, False]


def test_a_life_of_changes_answers_each_and_keeps_to_the_wish() -> None:
    problem = pools.pool(8, 80, 45, 1)
    below = change.life(problem, 1, 28, 1)
    assert {answered.kind for answered in below} == set(change.KINDS)
    assert Answer.YES in {answered.answer for answered in below}
    at_maximum = change.life(problem, 0, 28, 1)
    assert any(a.answer is not Answer.YES for a in at_maximum if a.kind == "host out")


def test_the_page_and_the_charts_show_the_figures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: it draws the charts of the bench")
    from bench import chart

    known = [planner.Known("p", 4, 40, 1, 2, 0.5, (1, 2), 2, 2, 0.25, True)]
    drawn = list(planner.random_pools([(4, 40)], 1, quiet))
    answers = change.life(pools.pool(4, 40, 45, 1), 0, 8, 1)
    rows = [*planner.public_rows(known), *planner.random_rows(drawn), *change.rows(answers, answers)]
    shown = page.text(rows, known, ["c.svg"], "2000-01-01", "a machine")
    assert "| p | 4 | 40 | 1 | 2 | 1 to 2 | 2 | 2 | 0.25 | 0.50 | accepted |" in shown
    assert "![c.svg](c.svg)" in shown
    for name, draw in {
        "known": lambda path: chart.public_problems(known, path),
        "drawn": lambda path: chart.random_pools(drawn, path),
        "change": lambda path: chart.one_change(answers, answers, path),
    }.items():
        path = tmp_path / f"{name}.svg"
        draw(path)
        first = path.read_text()
        assert ElementTree.fromstring(first).tag.endswith("svg")
        draw(path)
        assert path.read_text() == first
