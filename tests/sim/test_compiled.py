"""The compiled core of a long search is the core: the same schedules leave the same trace."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from . import compiled, native, search
from .profiles import generate
from .schedule import play

_TOLD = """
import json, sys
from quorate_core import heartbeat
from tests.sim import fast, search
from tests.sim.test_compiled import trace
fast.install()
print(json.dumps([heartbeat.__file__, [trace(seed) for seed in json.loads(sys.argv[1])]]))
"""


def trace(seed: int) -> str:
    """All that can be seen of a schedule: its timeline, what the monitor knows, and where every host and disk ends."""
    outcome = play(generate(seed), listen=True)
    seen, world = outcome.monitor, outcome.world
    sets = sorted(seen.fenced), sorted(seen.stopped_vms), [sorted(one) for one in seen.evicted_by]
    ends = [
        (h.name, h.life, h.heart.phase, h.heart.sequence, h.heart.cycles, h.heart.deadline, h.heart.shouted == set()) for h in world.hosts
    ]
    disks = [sorted((index, block.hex()) for index, block in disk.blocks.items()) for disk in world.disks]
    return repr((seen.log, seen.findings, seen.deaths, seen.certified_by, seen.ends, seen.last_sign, sets, ends, disks, world.now))


def _told_by(core: Path, seeds: list[int]) -> tuple[str, list[str]]:
    path = os.pathsep.join([str(core), *(one for one in sys.path if one)])
    told = subprocess.run(
        [sys.executable, "-c", _TOLD, json.dumps(seeds)], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": path}
    )
    file, traces = json.loads(told.stdout)
    return file, traces


def test_the_rewritten_core_leaves_the_same_trace(tmp_path: Path) -> None:
    """Run as plain Python, so that no compiler is needed: what is rewritten decides the same."""
    compiled.write(tmp_path)
    seeds = [5, 11, 23]
    file, traces = _told_by(tmp_path, seeds)
    assert file == str(tmp_path / "quorate_core" / "heartbeat.py")
    assert traces == [trace(seed) for seed in seeds]


@pytest.mark.nightly
def test_the_compiled_core_leaves_the_same_trace() -> None:
    try:
        core = compiled.core()
    except compiled.NotCompiled as why:
        pytest.skip(f"a C compiler and Python's headers are needed: {why}")
    seeds = list(range(1000, 1100))
    file, traces = _told_by(core, seeds)
    assert file.endswith(".so")
    assert traces == [trace(seed) for seed in seeds]


def test_a_rewritten_class_compares_copies_and_checks_itself_as_the_dataclass_did() -> None:
    source = """
from dataclasses import dataclass, field, replace
@dataclass(frozen=True, slots=True)
class Pair:
    low: int
    high: int = 9
    seen: dict[int, int] = field(default_factory=dict)
    wide: int = 0
    def __post_init__(self) -> None:
        if self.low > self.high: raise ValueError("low")
        object.__setattr__(self, "wide", self.high - self.low)
def raised(pair: Pair, low: int) -> Pair:
    return replace(pair, low=low)
"""
    made: dict[str, Any] = {}
    exec(native.rewrite({"pairs": source})["pairs"], made)
    pair = made["Pair"](2)
    assert repr(made["raised"](pair, 4)) == "Pair(low=4, high=9, seen={}, wide=5)"
    assert (pair.low, pair == made["Pair"](2), pair == made["Pair"](3), pair.seen is made["Pair"](2).seen) == (2, True, False, False)
    with pytest.raises(ValueError, match="low"):
        made["raised"](pair, 10)


def test_without_a_compiler_a_long_search_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse() -> Path:
        raise compiled.NotCompiled("command 'gcc' failed: No such file or directory")

    monkeypatch.setattr(compiled, "core", refuse)
    monkeypatch.setattr(search, "_WORTH_COMPILING", 2)
    (tally,) = search.search(0, 2, jobs=1, profile="mild")
    assert (tally.done, tally.found) == (2, [])
    assert "no compiled core here (command 'gcc' failed" in capsys.readouterr().err
