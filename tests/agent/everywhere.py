"""The three places where a host says why it does not arm: its HAHost, its log, `quorate explain host`. What real processes say."""

import tempfile
from pathlib import Path
from typing import Any

from quorate_agent.report import __main__ as reports
from quorate_agent.report import listening
from quorate_agent.voice import Voice
from tests.agent.machines import Machine, wait_until
from tests.cli.command import cluster, dump, quorate


def published(machine: Machine) -> dict[str, Any]:
    """`status.agent` of the HAHost, as report writes it of what this machine's pulse says now."""
    ear = listening.Ear("nowhere")
    ear.connected, ear.state = True, {"agent": machine.state()}
    return reports.Report(machine.name, "quorate-system", None, ear, Voice("quorate-report"))._agent()  # type: ignore[arg-type]


def explained(name: str, agent: dict[str, Any]) -> str:
    """What `quorate explain host` makes of that `status.agent`, without its line breaks."""
    host = {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAHost",
        "metadata": {"name": name},
        "spec": {"pool": "p"},
        "status": {"slot": 0, "address": "10.0.0.1", "agent": agent},
    }
    with tempfile.TemporaryDirectory() as folder:
        done = quorate("explain", "host", name, "-f", dump(Path(folder), [*cluster(), host]))
    assert done.returncode == 0, done.stderr
    return "".join(done.stdout.split())


def says_everywhere(machine: Machine, *words: str) -> None:
    """This host does not arm, and all three places say why, in these words; and all that the HAHost says is in the other two."""
    wait_until(f"pulse says: {words}", lambda: all(one in str(machine.state().get("message")) for one in words))
    wait_until(f"the log says: {words}", lambda: all(one in machine.log("pulse") for one in words), 10)
    agent = published(machine)
    assert agent["armed"] is False
    assert all(one in agent["message"] for one in words)
    shown = explained(machine.name, agent)
    assert "".join(f"; {agent['message']}".split()) in shown, "the line of the agent, not that of a channel"
