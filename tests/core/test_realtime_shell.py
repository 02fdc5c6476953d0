"""What keeper and pulse ask of the kernel: what is refused is said with its remedy; and what they do without, to stay small."""

import ctypes
import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from quorate_agent import realtime


def refused(monkeypatch: pytest.MonkeyPatch, *, memory: int, priority: int, capable: bool) -> list[str]:
    """What is said where the kernel answers with these errors (0: granted)."""

    def schedule(*_: object) -> None:
        if priority:
            raise OSError(priority, os.strerror(priority))

    libc = SimpleNamespace(mlockall=lambda _: -1 if memory else 0)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: libc)
    monkeypatch.setattr(ctypes, "get_errno", lambda: memory)
    monkeypatch.setattr(os, "sched_setscheduler", schedule)
    monkeypatch.setattr(realtime, "_may", lambda _: capable)
    return realtime.harden(3)


def test_nothing_is_said_where_everything_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused(monkeypatch, memory=0, priority=0, capable=True) == []


@pytest.mark.parametrize(
    ("capable", "memory", "priority"),
    [(False, "grant CAP_IPC_LOCK", "grant CAP_SYS_NICE"), (True, "raise its memlock limit", "its cgroup allows no real-time time")],
)
def test_each_refusal_names_what_was_asked_why_it_failed_and_the_remedy(
    monkeypatch: pytest.MonkeyPatch, capable: bool, memory: str, priority: str
) -> None:
    first, second = refused(monkeypatch, memory=errno.ENOMEM, priority=errno.EPERM, capable=capable)
    assert "mlockall: Cannot allocate memory" in first
    assert first.endswith(memory)
    assert "SCHED_RR 3: Operation not permitted" in second
    assert priority in second


@pytest.mark.parametrize(
    ("name", "without"),
    [
        (
            "keeper",
            {"hashlib", "asyncio", "ssl", "threading", "shutil", "zlib", "quorate_core.pool", "quorate_core.slot", "quorate_agent.wire"},
        ),
        ("pulse", {"asyncio", "ssl", "urllib.request", "http", "logging", "pydantic", "prometheus_client"}),
    ],
)
def test_keeper_and_pulse_load_only_what_they_need(name: str, without: set[str]) -> None:
    """The keeper is to stay under 16 MB, pulse under 30 MB; OpenSSL alone takes five. They are told what to do, and end: no such folder."""
    options = ["--run-dir", "/nowhere", *(["--node", "h0"] if name == "pulse" else [])]
    code = f"import sys; from quorate_agent.{name}.__main__ import main; sys.argv[1:] = {options!r}; main(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert "cannot start" in done.stderr
    assert not without & set(done.stdout.split())
