"""Report: carries the pool's configuration from the API to pulse, and what pulse says to the own HAHost. It alone has an API token.

Without an API server it goes on trying; pulse and keeper do not notice, because the configuration stays in the run directory. Nothing is
written per heartbeat: on change, and every half minute.
"""

import argparse
import asyncio
import os
import random
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import prometheus_client
from pydantic import ValidationError

from quorate_agent import wire
from quorate_agent.report import addresses, backup, desired, listening, metrics
from quorate_agent.report.api import Api, NoAnswer
from quorate_agent.voice import Voice
from quorate_api.hahost import AgentReport

_LOOK_EVERY_SECONDS = 5.0
_WRITE_EVERY_SECONDS = 30.0
_WRITE_AT_MOST_EVERY_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 8.0

_FAILURES = prometheus_client.Counter("quorate_agent_api_failures", "Requests that the API server did not answer.")


class Report:
    """What pulse says goes to the API, what the API says to pulse, and the pool's objects to the process that keeps their backup."""

    def __init__(self, host: str, namespace: str, api: Api, ear: listening.Ear, voice: Voice) -> None:
        self._host, self._namespace, self._api, self._ear, self._voice = host, namespace, api, ear, voice
        self._problem = self._waits = ""
        self._addresses: tuple[str, ...] = ()
        self._said: dict[str, str] = {}

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._ear.run())
            tasks.create_task(self._look())
            tasks.create_task(self._write())
            tasks.create_task(backup.hand_over(self._api, self._host, self._say))

    async def _look(self) -> None:
        while True:
            try:
                await self._take_over()
                self._say("API", "")
            except NoAnswer as error:
                _FAILURES.inc()
                self._say("API", f"{error}; pulse goes on with the configuration it has")
                self._hold(str(error))
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    async def _take_over(self) -> None:
        mine = await self._api.host(self._host)
        pool = await self._api.pool(mine.spec.pool)
        hosts = await self._api.hosts()
        key = await self._api.key(self._namespace, pool.spec.heartbeat.network.key_secret_name)
        self._find_addresses(pool.spec.heartbeat.network.interfaces, mine.status.address)
        wanted = desired.configuration(self._host, pool, hosts, key, datetime.now(UTC), self._addresses)
        if isinstance(wanted, desired.Unready):
            self._hold(wanted.why)
            self._say("configuration", wanted.why)
            return
        self._hold("")
        self._say("configuration", "")
        # As long as pulse does not say otherwise, it may be armed.
        armed = not self._ear.connected or bool(self._ear.state.get("agent", {}).get("armed", True))
        wanted, self._waits = desired.binding(wanted, _present(), armed=armed)
        self._say("key", self._waits)
        if _put(wanted.to_json()):
            self._voice.say(f"pool {wanted.pool}: {len(wanted.members)} members, {'enabled' if wanted.enabled else wanted.disabled_reason}")

    def _hold(self, problem: str) -> None:
        """What keeps this host's configuration from pulse; "" for nothing. It is told at once: pulse may have nothing new to say."""
        if problem != self._problem:
            self._problem = problem
            self._ear.changed.set()

    def _find_addresses(self, interfaces: Sequence[str], internal: str | None) -> None:
        """The own addresses may change while the host lives; the others read them on the HAHost."""
        if internal is None:
            return
        try:
            found = addresses.own(interfaces, internal) if interfaces else (internal,)
        except (OSError, ValueError) as error:
            self._say(
                "addresses", f"this host's addresses cannot be found: {error}; it goes on with {', '.join(self._addresses) or 'none'}"
            )
            return
        self._say("addresses", "")
        if found != self._addresses:
            self._addresses = found
            self._ear.changed.set()

    async def _write(self) -> None:
        failures = 0
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ear.changed.wait(), _WRITE_AT_MOST_EVERY_SECONDS if failures else _WRITE_EVERY_SECONDS)
            self._ear.changed.clear()
            try:
                agent = self._agent()
            except ValidationError as error:
                self._say("state", f"what pulse says does not fit the API: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}")
                await asyncio.sleep(_WRITE_AT_MOST_EVERY_SECONDS)
                continue
            try:
                await self._api.tell(self._host, agent)
                failures = 0
                self._say("state", "")
            except NoAnswer as error:
                _FAILURES.inc()
                failures += 1
                self._say("state", str(error))
            # An ailing API server is asked less and less often, at random moments, but a certificate never waits long.
            await asyncio.sleep(
                _WRITE_AT_MOST_EVERY_SECONDS + random.uniform(0, min(2.0**failures, _LONGEST_PAUSE_SECONDS) if failures else 0)
            )

    def _agent(self) -> dict[str, Any]:
        agent = dict(self._ear.state.get("agent") or {"state": "Starting", "message": ""})
        said = agent["message"] if self._ear.connected else self._ear.problem
        # An armed host needs nothing more. Of one whose pulse does not answer it is not known whether it is.
        problem = "" if self._ear.connected and agent.get("armed") else self._problem
        agent["message"] = "; ".join(part for part in (problem, said, self._waits) if part)[:2048]
        agent["reportedAt"] = datetime.now(UTC)
        for certificate in agent.get("certificates", []):
            certificate["issuedAt"] = certificate["issuedAt"] or datetime.now(UTC)
        agent["addresses"] = list(self._addresses)
        return AgentReport.model_validate(agent).to_json()

    def _say(self, subject: str, sentence: str) -> None:
        if self._said.get(subject, "") != sentence:
            self._said[subject] = sentence
            self._voice.say(sentence or f"{subject}: well again", loud=bool(sentence))


def _present() -> wire.PulseConfig | None:
    """The configuration that is in place, if it is one."""
    try:
        return wire.PulseConfig.from_json(Path(wire.CONFIG_FILE).read_bytes())
    except (OSError, wire.BadMessage):
        return None


def _put(text: str) -> bool:
    """Put the configuration in place, whole or not at all; False if it was there already."""
    place = Path(wire.CONFIG_FILE)
    with suppress(FileNotFoundError):
        if place.read_bytes() == text.encode():
            return False
    fresh = Path(wire.CONFIG_FILE + ".new")
    fresh.touch(mode=0o600)  # it holds the key
    fresh.write_text(text)
    fresh.replace(place)
    return True


async def _main(arguments: argparse.Namespace, voice: Voice) -> None:
    api = await Api.connect(arguments.kubeconfig)
    os.chdir(arguments.run_dir)
    ear = listening.Ear(wire.PULSE_SOCKET)
    if arguments.metrics_port:
        prometheus_client.REGISTRY.register(metrics.PulseMetrics(ear, voice))
        prometheus_client.start_http_server(arguments.metrics_port)
    task = asyncio.ensure_future(Report(arguments.node, arguments.namespace, api, ear, voice).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        with suppress(asyncio.CancelledError):
            await task
    finally:
        await api.close()


def main() -> int:
    """The process `quorate-report`."""
    parser = argparse.ArgumentParser(prog="quorate-report", description="Carry configuration and state between the API server and pulse.")
    parser.add_argument("--run-dir", required=True, type=Path, help="folder on the host's tmpfs shared by the agent's processes")
    parser.add_argument("--node", required=True, help="name of this host (its Node and HAHost)")
    parser.add_argument("--kubeconfig", type=Path, help="credentials; default: the pod's service account")
    parser.add_argument("--namespace", default="quorate-system", help="namespace of the Secret that signs packets")
    parser.add_argument("--metrics-port", type=int, default=0, help="serve Prometheus metrics here; 0: do not")
    arguments = parser.parse_args()
    voice = Voice("quorate-report")
    try:
        asyncio.run(_main(arguments, voice))
    except (NoAnswer, OSError) as error:
        voice.say(f"cannot start: {error}", loud=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
