"""Report while the API server does not answer, or pulse does not: what waits is told when it is back, what is wrong is told at once."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from quorate_agent import wire
from quorate_agent.report import __main__ as reports
from quorate_agent.report import listening
from quorate_agent.report.api import Api, NoAnswer
from quorate_agent.voice import Voice
from quorate_api.hahost import HAHost
from tests.agent import apiserver
from tests.agent.machines import wait_until
from tests.agent.scriptedapi import ScriptedApi, pool_on_loopback

HOST = {"metadata": {"name": "h0"}, "spec": {"pool": "p"}}
CERTIFICATE = {
    "host": "h1",
    "incarnation": "0" * 15 + "9",
    "issuedBy": "h0",
    "kind": "Silence",
    "evidence": "it was silent",
    "silentSeconds": 60,
    "boundSeconds": 59,
    "issuedAt": None,
}


def state(*certificates: dict[str, Any], waits: str = "") -> bytes:
    agent = {"state": "Starting" if waits else "Armed", "armed": not waits, "message": waits, "certificates": list(certificates)}
    return wire.message("state", agent=agent, drops={}, metrics={})


@contextlib.asynccontextmanager
async def reporting(api: ScriptedApi, *, pulse: bool = True) -> AsyncIterator[socket.socket]:
    """A report on that API in the working directory, and the pulse that it hears (or one that does not answer)."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as listener:
        if pulse:
            listener.bind(wire.PULSE_SOCKET)
            listener.listen(1)
        report = reports.Report("h0", "ns", cast("Any", api), listening.Ear(wire.PULSE_SOCKET), Voice("test"))
        task = asyncio.create_task(report.run())
        link = (await asyncio.get_running_loop().sock_accept(listener))[0] if pulse else listener
        with link:
            yield link
        task.cancel()
        await asyncio.wait([task])


async def until(holds: Callable[[], bool]) -> None:
    """Poll; whoever waits for all of it has the deadline."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.01)


def failures() -> float:
    return float(reports._FAILURES._value.get())  # type: ignore[no-untyped-call]  # the library has no other way


def test_what_pulse_said_while_the_api_was_away_is_told_when_it_is_back_and_the_api_is_asked_less_and_less_often(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reports, "_WRITE_AT_MOST_EVERY_SECONDS", 0.02)
    pauses: list[float] = []
    monkeypatch.setattr(reports, "random", SimpleNamespace(uniform=lambda _, most: pauses.append(most) or 0.0))
    api = ScriptedApi(pool_on_loopback(), HAHost.model_validate(HOST))

    async def run() -> dict[str, Any]:
        async with reporting(api) as pulse:
            pulse.send(state())
            await until(lambda: bool(api.told))
            api.away, before, tried = "HAHost h0: status: 503 Service Unavailable", failures(), api.tries
            pauses.clear()
            pulse.send(state(CERTIFICATE))
            await until(lambda: api.tries >= tried + 6)
            assert failures() >= before + 5
            assert not any(agent["certificates"] for agent in api.told)
            api.away = ""
            await until(lambda: bool(api.told[-1].get("certificates")))  # pulse says nothing new meanwhile
            return api.told[-1]

    told = asyncio.run(asyncio.wait_for(run(), 20))
    (certificate,) = told["certificates"]
    assert (certificate["host"], certificate["incarnation"]) == ("h1", CERTIFICATE["incarnation"])
    assert certificate["issuedAt"], "a time, for people"
    assert pauses[:5] == [2, 4, 8, 8, 8], "at most so long, at random: a certificate never waits long"
    log = capfd.readouterr().err
    assert log.count("503 Service Unavailable\n") == 1, "said once"
    assert "test: state: well again\n" in log


@pytest.mark.parametrize(("pulse", "says"), [(True, "waiting for the pool's configuration"), (False, "pulse does not answer")])
def test_a_missing_key_is_told_at_once_whatever_pulse_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pulse: bool, says: str) -> None:
    """A report that waited for its slow period, or for pulse, would leave people without the reason."""
    monkeypatch.chdir(tmp_path)
    api = ScriptedApi(pool_on_loopback(), HAHost.model_validate(HOST), key=None)

    async def run() -> str:
        async with reporting(api, pulse=pulse) as link:
            if pulse:
                link.send(state(waits=says))
            return str((await api.until_told(says))["message"])

    message = asyncio.run(asyncio.wait_for(run(), reports._WRITE_EVERY_SECONDS / 3))
    assert message == f"Secret quorate-heartbeat: it is missing; at least 16 bytes are needed to sign packets; {says}"


def test_a_problem_that_is_over_is_taken_back_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(reports, "_LOOK_EVERY_SECONDS", 0.05)
    mine = {**HOST, "status": {"slot": 0, "address": "10.0.0.1"}}
    api = ScriptedApi(pool_on_loopback(), HAHost.model_validate(mine), key=None)

    async def run() -> None:
        async with reporting(api, pulse=False):
            await api.until_told("Secret quorate-heartbeat: it is missing")
            api._key = bytes(32)
            await until(lambda: bool(api.told[-1]["message"] == "pulse does not answer"))

    asyncio.run(asyncio.wait_for(run(), reports._WRITE_EVERY_SECONDS / 2))


@pytest.fixture
def port() -> int:
    """One that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_no_answer_names_what_was_asked_and_why_it_failed(tmp_path: Path, port: int) -> None:
    """Nobody listens; then a server listens that has no such object, and one that cannot be read."""

    async def asked(*objects: dict[str, Any]) -> str:
        apiserver.put(tmp_path, list(objects))
        api = await Api.connect(apiserver.kubeconfig(tmp_path, port))
        try:
            with pytest.raises(NoAnswer) as refused:
                await api.host("h0")
            return str(refused.value)
        finally:
            await api.close()

    assert asyncio.run(asked()).startswith("HAHost h0: Cannot connect to host 127.0.0.1")
    with subprocess.Popen(apiserver.command(tmp_path, port)) as server:
        try:
            wait_until("it listens", lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
            assert asyncio.run(asked()) == "HAHost h0: 404 Not Found"
            broken = {"kind": "HAHost", "metadata": {"name": "h0"}, "spec": {"pool": 5}}
            assert asyncio.run(asked(broken)).startswith("HAHost h0: spec.pool: ")
        finally:
            server.kill()


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[None]:
    """A pulse that says the same certificate every half second to whoever connects."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / wire.PULSE_SOCKET))
        listener.listen(1)

        def speak() -> None:
            with contextlib.suppress(OSError):
                link, _ = listener.accept()
                while True:
                    link.send(state(CERTIFICATE))
                    time.sleep(0.5)

        threading.Thread(target=speak, daemon=True).start()
        yield
        listener.shutdown(socket.SHUT_RDWR)


def scraped(port: int) -> dict[str, float]:
    """The metrics that report serves; {} while it does not."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return {}
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


@pytest.mark.usefixtures("pulse")
def test_a_real_report_serves_its_metrics_while_the_api_is_away_and_tells_the_certificate_when_it_is_there(
    tmp_path: Path, port: int
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        metrics_port = int(probe.getsockname()[1])
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "quorate-heartbeat"}, "data": {}}
    pool = {"kind": "HAPool", "metadata": {"name": "p", "uid": str(uuid.UUID(int=1))}}
    pool["spec"] = {"heartbeat": {"storage": {"devicePath": "/dev/shared"}}}
    apiserver.put(tmp_path, [{"kind": "HAHost", **HOST}, pool, secret])
    options = ["--run-dir", str(tmp_path), "--node", "h0", "--metrics-port", str(metrics_port)]
    options += ["--kubeconfig", str(apiserver.kubeconfig(tmp_path, port))]
    with contextlib.ExitStack() as running:

        def start(command: list[str]) -> None:
            process = running.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
            running.callback(process.kill)

        start([sys.executable, "-m", "quorate_agent.report", *options])
        wait_until("it counts that nobody answers", lambda: scraped(metrics_port).get("quorate_agent_api_failures_total", 0) >= 2)
        found = scraped(metrics_port)
        names = ("pulse_connected", "armed", "certificates")
        assert [found[f"quorate_agent_{name}"] for name in names] == [1, 1, 1]
        assert apiserver.told(tmp_path) == {}
        start(apiserver.command(tmp_path, port))
        wait_until("it tells the certificate", lambda: bool(apiserver.told(tmp_path).get("certificates")), 30)
    assert apiserver.told(tmp_path)["certificates"][0]["host"] == "h1"
    assert json.loads((tmp_path / "told.json").read_text()).keys() == {"status"}
