"""Cuts in the network of a local pool: which packets are dropped, by which rules, and that a host hears again after the healing."""

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from quorate_local import __main__ as command_line
from quorate_local import cables, hosts, processes, runs
from quorate_local.problem import Problem

ADDRESSES = {"h1": "10.0.0.2", "h2": "10.0.0.3", "h3": "10.0.0.4", cables.API: "10.0.0.1"}
PRESENT = [
    {"priority": 10, "src": "10.0.0.3", "action": "blackhole"},
    {"priority": 10, "src": "all", "dst": "10.0.0.1", "action": "blackhole"},
    {"priority": 100, "src": "all", "table": "local"},
]

LISTEN = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind((sys.argv[1], 7000)); print("ready", flush=True)
while True: print(s.recv(64).decode(), flush=True)
"""
SEND = "import socket, sys; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(sys.argv[2].encode(), (sys.argv[1], 7000))"


def test_a_split_cuts_both_directions_between_the_groups_and_none_within() -> None:
    assert cables.between([["h1", "h2"], ["h3"]]) == {("h1", "h3"), ("h3", "h1"), ("h2", "h3"), ("h3", "h2")}
    assert len(cables.between([["h1"], ["h2"], ["h3"]])) == 6


@pytest.mark.parametrize("groups", [[["h1"]], [["h1"], []], [["h1", "h2"], ["h2"]], [["h1", "h1"], ["h2"]]])
def test_a_split_without_two_sides_or_with_a_host_on_both_is_refused(groups: list[list[str]]) -> None:
    with pytest.raises(Problem, match=r"at least two groups|only be on one side"):
        cables.between(groups)


def test_only_the_receiver_of_a_one_way_cut_drops() -> None:
    cut = {("h1", "h2")}
    assert cables.dropped("h2", cut, ADDRESSES) == {"from 10.0.0.2"}
    assert cables.dropped("h1", cut, ADDRESSES) == frozenset()


def test_a_host_cut_off_from_the_api_server_drops_in_both_directions() -> None:
    assert cables.dropped("h1", {("h1", cables.API), (cables.API, "h1")}, ADDRESSES) == {"from 10.0.0.1", "to 10.0.0.1"}


def test_rules_are_added_and_removed_as_wanted_and_nothing_is_done_twice() -> None:
    assert cables.changes(PRESENT, {"from 10.0.0.3", "to 10.0.0.1"}) == []
    assert cables.changes(PRESENT, {"from 10.0.0.4", "to 10.0.0.1"}) == [
        "rule del pref 10 from 10.0.0.3 blackhole",
        "rule add pref 10 from 10.0.0.4 blackhole",
    ]
    assert cables.changes(PRESENT, ()) == ["rule del pref 10 from 10.0.0.3 blackhole", "rule del pref 10 to 10.0.0.1 blackhole"]


def test_the_rule_for_local_addresses_gives_way_before_anything_is_dropped() -> None:
    fresh = [{"priority": 0, "src": "all", "table": "local"}]
    assert cables.changes(fresh, {"from 10.0.0.3"}) == [
        "rule add pref 100 lookup local",
        "rule del pref 0",
        "rule add pref 10 from 10.0.0.3 blackhole",
    ]


REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)"


def reaches_api(host: hosts.Host) -> bool:
    """Whether the host gets a connection to where the API server answers."""
    command = ["nsenter", "-t", str(host.init_pid()), "-n", sys.executable, "-c", REACH, hosts.GATEWAY, str(hosts.PORT)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


class Listener:
    """Hears what is sent to a host."""

    def __init__(self, host: hosts.Host) -> None:
        self._host = host
        inside = ["nsenter", "-t", str(host.init_pid()), "-n", sys.executable, "-c", LISTEN, host.address]
        self.process = subprocess.Popen(inside, stdout=subprocess.PIPE, bufsize=0)
        assert self.hear(20) == "ready"

    def hear(self, patience_seconds: float = 2) -> str:
        """What it has heard, or silence."""
        out = self.process.stdout
        assert out is not None
        return out.readline().decode().strip() if select.select([out], [], [], patience_seconds)[0] else "silence"

    def hears(self, sender: hosts.Host) -> bool:
        """Whether it hears a host. After it the switch speaks, which is never cut here: what is not there by then was dropped.

        A round in which neither is heard proves nothing: a port that has just come up loses packets.
        """
        rounds_without = 0
        for _ in range(20):
            for pid, said in ((sender.init_pid(), "host"), (self._host.rack.switch_pid, "end")):
                subprocess.run(["nsenter", "-t", str(pid), "-n", sys.executable, "-c", SEND, self._host.address, said], check=True)
            heard: set[str] = set()
            while not {"end", "silence"} & heard:
                heard.add(self.hear())
                assert "" not in heard, "the listener has ended"
            if "host" in heard:
                return True
            rounds_without += "end" in heard
            if rounds_without == 2:
                return False
        raise AssertionError("the switch was never heard")

    def hears_soon(self, sender: hosts.Host) -> bool:
        """The same for a host that may be heard: who was cut off asks for addresses again every second."""
        return any(self.hears(sender) for _ in range(40))


@pytest.fixture
def rack() -> Iterator[hosts.Rack]:
    """Hosts on their switch, without any control plane: their stand-ins wait for one."""
    run = runs.claim()
    procs = processes.Processes(run)
    authority = run.folder / "none"
    found = hosts.Rack(procs, hosts.Surroundings(("", authority, authority, authority), run.folder / "disks", "none"), 9)
    try:
        if not found.isolated:
            pytest.skip("hosts have no network of their own without root")
        yield found
    finally:
        found.stop()
        procs.stop_all()
        run.give_up()


@contextlib.contextmanager
def listening(host: hosts.Host) -> Iterator[Listener]:
    listener = Listener(host)
    try:
        yield listener
    finally:
        listener.process.kill()
        listener.process.wait()


def test_cut_hosts_do_not_hear_each_other_also_after_a_boot_until_the_cut_is_healed(rack: hosts.Rack) -> None:
    one, other = (rack.add(name, memory="1Gi", labels={}, agent=False) for name in ("h1", "h2"))
    one.power_on()
    other.power_on()
    mine = Path("/proc/self/ns/net").readlink()
    rules = subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout
    with listening(one) as at_one, listening(other) as at_other:
        assert at_other.hears_soon(one)
        rack.cables.cut("h1", "h2", one_way=True)
        assert not at_other.hears(one)
        assert at_one.hears_soon(other)
    other.power_off()
    other.power_on()
    with listening(one) as at_one, listening(other) as at_other:
        assert not at_other.hears(one)
        answer = CliRunner().invoke(command_line.app, ["split", rack.procs.run.name, "h1", "h2"])
        assert answer.exit_code == 0, answer.output
        assert not at_one.hears(other)
        rack.cables.heal()
        assert at_other.hears_soon(one)
        assert at_one.hears_soon(other)
        assert reaches_api(one)
        rack.cables.cut("h1", cables.API)
        assert not reaches_api(one)
        assert reaches_api(other)
        assert at_one.hears_soon(other)
    assert Path("/proc/self/ns/net").readlink() == mine
    assert subprocess.run(["ip", "rule"], capture_output=True, text=True, check=True).stdout == rules
    with pytest.raises(Problem, match=r"no such host: h9\. There are: api, h1, h2"):
        rack.cables.cut("h1", "h9")


def test_the_gateway_keeps_its_hardware_address_whichever_host_goes_off(rack: hosts.Rack) -> None:
    def card() -> str:
        """As the hosts remember it; a bridge may have that of one of its ports, so each of them goes off once."""
        command = ["nsenter", "-t", str(rack.switch_pid), "-n", "ip", "-json", "link", "show", "br0"]
        found: str = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)[0]["address"]
        return found

    pair = [rack.add(name, memory="1Gi", labels={}, agent=False) for name in ("h1", "h2")]
    for host in pair:
        host.power_on()
    was = card()
    for host in pair:
        rack.ip(f"link del v{host.index}")
        assert card() == was
        host.power_off()
        host.power_on()
        assert card() == was


def test_hosts_on_the_loopback_network_are_never_cut_and_the_problem_says_what_is_missing(tmp_path: Path) -> None:
    machine = tmp_path / "hosts" / "h1" / "machine.json"
    machine.parent.mkdir(parents=True)
    machine.write_text('{"address": null}')
    with pytest.raises(Problem, match="only as root"):
        cables.Cables("run", tmp_path, "10.0.0.1").cut("h1", cables.API)


def test_a_pool_that_does_not_run_is_named() -> None:
    answer = CliRunner().invoke(command_line.app, ["heal", f"none-{os.getpid()}"])
    assert isinstance(answer.exception, Problem)
    assert f"no local pool none-{os.getpid()} runs" in str(answer.exception)
