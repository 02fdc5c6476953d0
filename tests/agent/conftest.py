"""Fixtures for tests of real keepers and pulses: pools on loopback addresses, and scenarios of hosts in namespaces."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.machines import Rig, wait_until
from tests.agent.staging import Stage

_STAGE = pytest.StashKey[Stage]()


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Callable[[int], Rig]]:
    """Makes a pool of so many machines; all of it is gone after the test."""
    made: list[Rig] = []

    def make(count: int) -> Rig:
        made.append(Rig(tmp_path, count))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def until() -> Callable[..., float]:
    """`wait_until`."""
    return wait_until


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The scenarios that were selected, under way."""
    stage = Stage()
    request.config.stash[_STAGE] = stage
    stage.begin(request.session.items, lambda name: tmp_path_factory.mktemp(name[5:25]))
    yield stage
    stage.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures, beside their bounds."""
    stage = config.stash.get(_STAGE, None)
    if stage is not None and stage.told:
        terminalreporter.section("real hosts in namespaces")
        for name, figure in stage.told:
            terminalreporter.write_line(f"{name}: {figure}")
