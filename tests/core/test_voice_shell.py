"""Row 47, the log: a pipe that nobody empties, or that is closed, stops neither the keeper nor pulse."""

import fcntl
import os
import signal
from contextlib import suppress

import pytest

from quorate_agent import voice
from quorate_agent.voice import Voice


def say_within_seconds(loud: Voice, seconds: int) -> None:
    """Say one sentence; a process that hangs in it is a test that fails, not one that never ends."""

    def hangs(*_: object) -> None:
        raise AssertionError("the log made the process wait")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(seconds)
    try:
        loud.say("a sentence")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_full_log_pipe_makes_nobody_wait_and_the_lost_lines_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while True:
            os.write(write, bytes(4096))
    os.set_blocking(write, True)
    monkeypatch.setattr(voice, "_STDERR", write)
    loud = Voice("test")
    say_within_seconds(loud, 5)
    assert loud.dropped == 1
    os.read(read, fcntl.fcntl(read, fcntl.F_GETPIPE_SZ))
    say_within_seconds(loud, 5)
    assert loud.dropped == 1
    assert os.read(read, 100) == b"test: a sentence\n"
    os.close(read)
    os.close(write)


def test_a_closed_log_is_no_reason_to_die(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr(voice, "_STDERR", write)
    loud = Voice("test")
    say_within_seconds(loud, 5)
    assert loud.dropped == 1
    os.close(write)


def test_a_name_that_is_no_utf_8_is_said_and_ends_no_process(capfd: pytest.CaptureFixture[str]) -> None:
    Voice("test").say(os.fsdecode(b"/cgroup/\xff"))
    assert capfd.readouterr().err == "test: /cgroup/\\udcff\n"
