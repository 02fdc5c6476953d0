"""What report makes of pulse's numbers, and of this host's addresses."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from quorate_agent import wire
from quorate_agent.histogram import CYCLE_BOUNDS_SECONDS, Histogram
from quorate_agent.pulse import describe
from quorate_agent.report import __main__ as reports
from quorate_agent.report import addresses, listening
from quorate_agent.report.addresses import Found
from quorate_agent.report.metrics import PulseMetrics
from quorate_agent.voice import Voice
from quorate_api.hahost import AgentReport, HAHost
from quorate_core.eviction import Alarm, Eviction
from quorate_core.heart import Heart
from quorate_core.membership import Peer
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Evidence, Issued
from quorate_core.statement import Phase
from quorate_core.timing import STANDARD
from tests.agent.scriptedapi import ScriptedApi, pool_on_loopback

CONFIG = PoolConfig(bytes(range(1, 17)), tuple(Member(i, f"h{i}") for i in range(3)), STANDARD)
HEART = Heart(
    "h0",
    bytes(16),
    7,
    config=CONFIG,
    phase=Phase.ARMED,
    claimed=True,
    licensed=True,
    confirmed=True,
    evidence_at=98.0,
    deadline=118.0,
    disk_problem="",
    peers={1: Peer(changed_at=99.0, heard_at=99.5), 2: Peer()},
    issued=(Issued(2, 9, 5.0, 5.0, Evidence.CONFIRMED),),
    evictions=(Eviction(2, 9, STANDARD.values, 90.0),),
)


def said() -> dict[str, Any]:
    """A whole message of pulse, as report receives it."""
    cycles, late = Histogram(CYCLE_BOUNDS_SECONDS), Histogram((0.001, 0.01))
    for seconds in (0.003, 0.003, 9.0):
        cycles.observe(seconds)
    late.observe(0.005)
    agent = describe.state(HEART, 100.0, describe.Troubles(("",)), {(2, 9): "2026-01-01T00:00:00+00:00"}, "boot")
    counted = describe.metrics(HEART, 100.0, cycles, 1, {"old evidence": 2}, late.to_json(), {"pulse": 4, "keeper": 5})
    return wire.parse(wire.message("state", agent=agent, drops={"signature": 3}, metrics=counted), "test")


NOTHING_BUT_REPORTS_OWN = {"quorate_agent_pulse_connected": 0, 'quorate_agent_log_lines_lost_total{process="report"}': 6}


def exposed(ear: listening.Ear | None = None, *, connected: bool = True) -> dict[str, float]:
    """The metrics as a scrape sees them: name with labels, value."""
    if ear is None:
        ear = listening.Ear("nowhere")
        ear.connected, ear.state = connected, said()
    registry = CollectorRegistry()
    voice = Voice("quorate-report")
    voice.dropped = 6
    registry.register(PulseMetrics(ear, voice))
    lines = generate_latest(registry).decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_what_pulse_says_fits_the_api_with_evictions_kinds_and_both_bounds() -> None:
    report = AgentReport.model_validate(said()["agent"])
    assert [(e.host, e.incarnation) for e in report.evictions] == [("h2", "0000000000000009")]
    assert (report.certificates[0].kind, report.bound_seconds, report.eviction_bound_seconds) == ("Confirmed", 59, 53)
    assert "none of its VMs is left" in report.certificates[0].evidence
    assert report.storageless is False


def test_a_life_without_storage_and_an_undecided_partition_are_said() -> None:
    heart = replace(HEART, storageless=True, undecided="h1: not yet of the same intent")
    agent = describe.state(heart, 110.0, describe.Troubles(("",)), {}, "boot")
    assert agent["storageless"] is True
    assert "it has no storage and lives on the word of all others" in agent["message"]
    assert "a partition is undecided: h1: not yet of the same intent" in agent["message"]


def test_an_armed_host_that_others_cannot_know_to_be_armed_says_why() -> None:
    for heart, why in (
        (replace(HEART, licensed=False, confirmed=False), "its keeper has not taken the licence"),
        (replace(HEART, confirmed=False), "an older write of this host may still land on the heartbeat disk"),
    ):
        agent = describe.state(heart, 110.0, describe.Troubles(("",)), {}, "boot")
        assert (agent["state"], agent["armed"]) == ("Joining", False)
        assert f"not yet said to be armed: {why}" in agent["message"]


def test_a_host_that_leaves_says_so_until_its_keeper_has_let_go() -> None:
    for deadline, state in ((118.0, "Disarming"), (None, "Disarmed")):
        heart = replace(HEART, phase=Phase.DISARMED, deadline=deadline)
        assert describe.state(heart, 100.0, describe.Troubles(("",)), {}, "boot")["state"] == state


def test_an_evicted_host_that_does_not_die_is_an_alarm_in_words_and_as_a_number() -> None:
    heart = replace(HEART, alarms=(Alarm(2, 9, "it still gives signs of life"),))
    troubles = describe.Troubles(("",))
    assert "ALARM: h2: it still gives signs of life; power it off" in describe.state(heart, 110.0, troubles, {}, "boot")["message"]
    ear = listening.Ear("nowhere")
    ear.connected, ear.state = True, {"metrics": describe.metrics(heart, 110.0, Histogram(CYCLE_BOUNDS_SECONDS), 0, {}, {}, {})}
    assert exposed(ear)["quorate_agent_alarms"] == 1
    assert exposed()["quorate_agent_alarms"] == 0


def test_an_eviction_whose_victim_is_certified_is_no_longer_listed() -> None:
    dead = replace(HEART, dead={2: frozenset({9})})
    assert describe.state(dead, 110.0, describe.Troubles(("",)), {}, "boot")["evictions"] == []


def test_each_number_of_pulse_is_exposed_under_its_name() -> None:
    found = exposed()
    expected = {
        "quorate_agent_pulse_connected": 1,
        "quorate_agent_armed": 1,
        "quorate_agent_storageless": 0,
        "quorate_agent_evictions": 1,
        "quorate_agent_certificates": 1,
        "quorate_agent_licence_left_seconds": 18,
        "quorate_agent_evidence_age_seconds": 2,
        'quorate_agent_heartbeat_age_seconds{channel="storage",peer="h1"}': 1,
        'quorate_agent_heartbeat_age_seconds{channel="network",peer="h1"}': 0.5,
        'quorate_agent_packets_dropped_total{reason="signature"}': 3,
        'quorate_agent_warnings_total{kind="old evidence"}': 2,
        "quorate_agent_storage_cycles_failed_total": 1,
        'quorate_agent_storage_cycle_seconds_bucket{le="0.005"}': 2,
        'quorate_agent_storage_cycle_seconds_bucket{le="8.0"}': 2,
        'quorate_agent_storage_cycle_seconds_bucket{le="+Inf"}': 3,
        "quorate_agent_storage_cycle_seconds_count": 3,
        'quorate_agent_pet_lateness_seconds_bucket{le="0.01"}': 1,
        'quorate_agent_log_lines_lost_total{process="keeper"}': 5,
        'quorate_agent_log_lines_lost_total{process="pulse"}': 4,
        'quorate_agent_log_lines_lost_total{process="report"}': 6,
    }
    assert {name: found.get(name) for name in expected} == expected
    assert not any("h2" in name for name in found), "a host that was never seen has no age"


def test_without_pulse_there_are_no_stale_numbers() -> None:
    assert exposed(connected=False) == NOTHING_BUT_REPORTS_OWN


LISTED = [
    Found(1, "127.0.0.1", True),
    Found(2, "10.0.0.5", True),
    Found(2, "10.0.0.6", True),
    Found(2, "2001:db8::5", True),
    Found(3, "2001:db8:1::5", False),
    Found(3, "2001:db8:1::6", True),
    Found(4, "10.2.0.5", False),
]


@pytest.mark.parametrize(
    ("like", "chosen"),
    [("10.0.0.1", ("10.0.0.5", "2001:db8:1::6", "", "")), ("2001:db8::1", ("2001:db8::5", "2001:db8:1::6", "", ""))],
    ids=["IPv4", "IPv6"],
)
def test_of_each_interface_one_sound_address_is_chosen_of_the_nodes_own_family_where_there_is_one(
    like: str, chosen: tuple[str, ...]
) -> None:
    assert addresses.choose((2, 3, 4, 0), LISTED, like) == chosen


@pytest.mark.skipif(os.geteuid() != 0 or not (shutil.which("unshare") and shutil.which("ip")), reason="needs root, unshare and ip")
def test_the_kernel_lists_the_addresses_of_real_interfaces() -> None:
    commands = (
        "ip link add red type veth peer name blue && ip addr add 10.9.0.1/24 dev red && ip addr add 10.9.0.2/24 dev red && "
        "ip addr add 2001:db8::9/64 dev blue nodad && ip link set red up && ip link set blue up && "
    )
    python = (
        f"{sys.executable} -c \"from quorate_agent.report import addresses; print(addresses.own(['blue', 'red', 'none'], '10.0.0.1'))\""
    )
    done = subprocess.run(["unshare", "--net", "sh", "-c", commands + python], capture_output=True, text=True, timeout=30, check=False)
    if "Unknown device type" in done.stderr or "not supported" in done.stderr:
        pytest.skip(f"no veth interfaces here: {done.stderr.strip()}")
    assert done.stdout.strip() == "('2001:db8::9', '10.9.0.1', '')", done.stderr


def test_the_loopback_address_of_this_machine_is_found() -> None:
    assert addresses.own(["lo"], "10.0.0.1") == ("127.0.0.1",)
    assert socket.if_nametoindex("lo") == 1


def test_report_tells_the_others_this_hosts_addresses_and_pulse_all_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    mine = HAHost.model_validate({"metadata": {"name": "h0"}, "spec": {"pool": "p"}, "status": {"slot": 0, "address": "10.0.0.1"}})
    api = ScriptedApi(pool_on_loopback(), mine)

    async def run() -> None:
        task = asyncio.create_task(reports.Report("h0", "ns", cast("Any", api), listening.Ear(wire.PULSE_SOCKET), Voice("test")).run())
        await asyncio.wait_for(api.written.wait(), 20)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(run())
    assert api.told[0]["addresses"] == ["127.0.0.1", ""]
    config = wire.PulseConfig.from_json(Path(wire.CONFIG_FILE).read_text())
    assert (config.members[0].addresses, config.interfaces) == (("127.0.0.1", ""), ("lo", "none"))
    assert Path(wire.CONFIG_FILE).stat().st_mode & 0o077 == 0, "the file holds the key"


def test_new_numbers_alone_are_no_reason_to_write_to_the_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ages change with each second; the API server is not to hear of a heartbeat."""
    monkeypatch.chdir(tmp_path)
    first = said()
    older = {**first, "metrics": {**first["metrics"], "evidenceAge": 3.0}}
    other = {**first, "agent": {**first["agent"], "message": "something new"}}

    async def run() -> list[bool]:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(wire.PULSE_SOCKET)
        listener.listen(1)
        ear = listening.Ear(wire.PULSE_SOCKET)
        task = asyncio.create_task(ear.run())
        link, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 10)
        changed = []
        for message in (first, older, other):
            link.send(json.dumps(message).encode())
            for _ in range(1000):
                await asyncio.sleep(0.01 if ear.state != message else 0)
            changed.append(ear.changed.is_set())
            ear.changed.clear()
        task.cancel()
        await asyncio.wait([task])
        link.close()
        listener.close()
        return changed

    assert asyncio.run(asyncio.wait_for(run(), 20)) == [True, False, True]


def test_a_configuration_that_is_no_text_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(wire.CONFIG_FILE).write_bytes(b"\xff\xfe\x00garbage")
    assert reports._put("{}")
    assert not reports._put("{}")
    assert Path(wire.CONFIG_FILE).read_text() == "{}"


def test_a_pulse_that_falls_silent_or_speaks_another_version_is_said_and_has_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process keeps its sockets."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(listening, "_SILENCE_SECONDS", 0.3)
    api = ScriptedApi(pool_on_loopback(), HAHost.model_validate({"metadata": {"name": "h0"}, "spec": {"pool": "p"}}))

    async def run() -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        listener.bind(wire.PULSE_SOCKET)
        listener.listen(1)
        ear = listening.Ear(wire.PULSE_SOCKET)
        task = asyncio.create_task(reports.Report("h0", "ns", cast("Any", api), ear, Voice("test")).run())
        link, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(listener), 10)
        link.send(json.dumps(said()).encode())
        await api.until_told("pulse does not answer since 20")
        assert exposed(ear) == NOTHING_BUT_REPORTS_OWN
        while "does not answer" in api.told[-1]["message"]:
            link.send(json.dumps(said()).encode())
            await asyncio.sleep(0.05)
        link.send(json.dumps({**said(), "version": 3}).encode())
        await api.until_told("message from pulse: version 3; this agent speaks version 1; restart the agent")
        assert exposed(ear) == NOTHING_BUT_REPORTS_OWN
        task.cancel()
        await asyncio.wait([task])
        link.close()
        listener.close()

    asyncio.run(asyncio.wait_for(run(), 60))
