"""Runs scenarios of real hosts side by side: each only waits for watchdogs and deadlines, so several at once take little more time.

A scenario is written as a test that takes a pool. All that were selected start with the first one, a few at a time, in their order; each
test then waits for its own and reports it as if it had run there.
"""

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.agent.namespaces import Pool, missing

_AT_ONCE = 4
_LOG_LINES = 12
_PRIORITY = 10


def _be_hardware() -> None:
    """This thread, and those that it starts, stand for watchdogs, disks and cables: on a busy machine they must not be late themselves."""
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(_PRIORITY))


@dataclass(frozen=True, slots=True)
class Scene:
    """A scenario: its body and how many hosts it needs."""

    body: Callable[[Pool], None]
    hosts: int


def scenario(hosts: int = 4) -> Callable[[Callable[[Pool], None]], Callable[..., None]]:
    """Makes a test of a function that takes a pool of so many hosts, still off."""

    def make(body: Callable[[Pool], None]) -> Callable[..., None]:
        def test(stage: Stage) -> None:
            for figure in stage.result(test):
                print(figure)

        for name in ("__name__", "__qualname__", "__doc__", "__module__"):
            setattr(test, name, getattr(body, name))
        test.scene = Scene(body, hosts)  # type: ignore[attr-defined]
        return test

    return make


@dataclass
class Stage:
    """The scenarios of a test run and their results. `told` are the figures of those that have ended."""

    told: list[tuple[str, str]] = field(default_factory=list)
    _runner: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_AT_ONCE, "scenario", _be_hardware))
    _results: dict[Any, "Future[list[str]]"] = field(default_factory=dict)
    _open: list[Pool] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, items: list[pytest.Item], folder: Callable[[str], Path]) -> None:
        """Start what was selected."""
        lacks: str | None = None
        for item in items:
            test = getattr(item, "obj", None)
            scene = getattr(test, "scene", None)
            if scene is None or test in self._results:
                continue
            lacks = missing() if lacks is None else lacks
            if lacks:
                pytest.skip(f"hosts in namespaces need {lacks}")
            self._results[test] = self._runner.submit(self._play, scene, folder(item.name))

    def result(self, test: Callable[..., None]) -> list[str]:
        """Wait for that scenario; its figures, or its failure."""
        figures = self._results[test].result()
        self.told += [(test.__name__, figure) for figure in figures]
        return figures

    def close(self) -> None:
        """Stop what still runs."""
        self._runner.shutdown(wait=False, cancel_futures=True)
        with self._lock:
            for pool in self._open:
                pool.stopped = True
        self._runner.shutdown()

    def _play(self, scene: Scene, folder: Path) -> list[str]:
        pool = Pool(folder, scene.hosts)
        with self._lock:
            self._open.append(pool)
        try:
            scene.body(pool)
        except BaseException as error:
            for host in pool.hosts:
                lines = host.log("pulse").splitlines()[-_LOG_LINES:]
                error.add_note("\n".join([f"--- {host.name}, {'on' if host.on else 'off'}, {host.state().get('state')}", *lines]))
            raise
        finally:
            with self._lock:
                self._open.remove(pool)
            pool.close()
        return pool.figures
