"""Pulse's network: several paths, IPv6, what is wrong with each by its name, and whose packets are dropped for what cause."""

import socket
import time

import pytest

from quorate_agent import wire
from quorate_agent.pulse.dropped import Dropped
from quorate_agent.pulse.network import Network, Received
from quorate_core.packet import MAX_BYTES, Drop

POOL = bytes(range(1, 17))


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def config(port: int, interfaces: tuple[str, ...], **addresses: tuple[str, ...]) -> wire.PulseConfig:
    members = tuple(wire.MemberAddress(host, slot, own) for slot, (host, own) in enumerate(addresses.items()))
    return wire.PulseConfig("p", POOL.hex(), True, "", 20, 8, "dog", ("/disk",), port, bytes(16), members, interfaces)


def bound(conf: wire.PulseConfig, host: str) -> Network:
    network = Network()
    network.bind(conf, host, 0.0)
    return network


def arrived(network: Network, number: int) -> list[Received]:
    found: list[Received] = []
    deadline = time.monotonic() + 5
    while len(found) < number and time.monotonic() < deadline:
        found += network.receive()
    return found


@pytest.fixture
def two() -> tuple[wire.PulseConfig, Network, Network]:
    """Hosts a and b on two paths."""
    conf = config(free_port(), ("red", "blue"), a=("127.0.1.1", "127.0.2.1"), b=("127.0.1.2", "127.0.2.2"))
    return conf, bound(conf, "a"), bound(conf, "b")


def test_every_packet_goes_to_every_member_on_every_path(two: tuple[wire.PulseConfig, Network, Network]) -> None:
    conf, a, b = two
    a.send(b"hello", conf.members[1:], conf.port)
    found = arrived(b, 2)
    assert {(one.data, one.path, one.sender) for one in found} == {(b"hello", 0, "127.0.1.1"), (b"hello", 1, "127.0.2.1")}


def test_a_host_heard_on_one_path_only_is_named_with_the_path_that_is_silent(two: tuple[wire.PulseConfig, Network, Network]) -> None:
    conf, a, _ = two
    a.heard(0, "b", 30.0)
    assert a.problems(conf.members, "a", 31.0, 8.0) == ["", "blue: b is not heard here, but on another path"]
    a.heard(1, "b", 30.5)
    assert a.problems(conf.members, "a", 31.0, 8.0) == ["", ""]


def test_a_host_heard_nowhere_is_no_fault_of_a_path(two: tuple[wire.PulseConfig, Network, Network]) -> None:
    conf, a, _ = two
    assert a.problems(conf.members, "a", 1000.0, 8.0) == ["", ""]


def test_a_missing_address_leaves_the_other_path_working_and_is_named() -> None:
    conf = config(free_port(), ("red", "blue"), a=("127.0.1.1", ""), b=("127.0.1.2", "127.0.2.2"))
    a, b = bound(conf, "a"), bound(conf, "b")
    a.send(b"hello", conf.members[1:], conf.port)
    assert [one.path for one in arrived(b, 1)] == [0]
    assert a.problems(conf.members, "a", 1.0, 8.0) == ["", "blue: this host has no address on blue"]


def test_an_address_that_comes_up_after_the_agent_is_bound_then() -> None:
    port = free_port()
    late = config(port, (), a=("203.0.113.7",))
    network = bound(late, "a")
    assert network.problems(late.members, "a", 0.0, 8.0) == [f"UDP 203.0.113.7 port {port}: Cannot assign requested address"]
    there = config(port, (), a=("127.0.0.1",))
    network.bind(there, "a", 1.0)
    assert network.problems(there.members, "a", 1.0, 8.0) == [""]


def test_what_cannot_be_sent_is_named_by_path_and_host() -> None:
    conf = config(free_port(), ("red", "blue"), a=("127.0.1.1", "127.0.2.1"), b=("127.0.1.2", "255.255.255.255"))
    a = bound(conf, "a")
    a.send(b"hello", conf.members[1:], conf.port)
    assert a.problems(conf.members, "a", 1.0, 8.0) == ["", "blue: b: Permission denied"]


def test_ipv6_is_a_path_like_any_other() -> None:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one:
            one.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 on this machine")
    conf = config(free_port(), ("red", "blue"), a=("::1", "127.0.2.1"), b=("::1", "127.0.2.2"))
    a = bound(conf, "a")
    a.send(b"hello", conf.members[1:], conf.port)
    assert [(one.path, one.sender) for one in arrived(a, 1)] == [(0, "::1")]


def test_a_path_more_or_less_is_taken_over() -> None:
    port = free_port()
    network = bound(config(port, (), a=("127.0.1.1",)), "a")
    network.bind(config(port, ("red", "blue"), a=("127.0.1.1", "127.0.2.1")), "a", 1.0)
    assert len(network.sources()) == 2
    network.bind(config(port, (), a=("127.0.2.1",)), "a", 2.0)
    assert len(network.sources()) == 1
    network.send(b"to myself", (wire.MemberAddress("x", 9, ("127.0.2.1",)),), port)
    assert arrived(network, 1)[0].sender == "127.0.2.1"


def test_an_oversized_packet_is_recognisably_too_long(two: tuple[wire.PulseConfig, Network, Network]) -> None:
    conf, a, b = two
    a.send(bytes(5000), conf.members[1:], conf.port)
    assert len(arrived(b, 1)[0].data) == MAX_BYTES + 1


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        (Drop.FORGED, "packets from 10.0.0.2 (node-2) are dropped: signature (another key?)"),
        (Drop.OTHER_POOL, "packets from 10.0.0.2 (node-2) are dropped: another pool (do two pools share one port?)"),
        (Drop.VERSION, "packets from 10.0.0.2 (node-2) are dropped: another version (another release of the agent?)"),
    ],
)
def test_the_cause_of_dropped_packets_is_named_with_the_host_they_came_from(drop: Drop, words: str) -> None:
    dropped = Dropped()
    dropped.count(drop, "10.0.0.2", 5.0)
    assert dropped.causes({"10.0.0.2": "node-2"}, 6.0, 16.0) == [words]
    assert dropped.causes({"10.0.0.2": "node-2"}, 60.0, 16.0) == []
    assert dropped.counts == {drop: 1}


def test_a_second_copy_of_a_packet_is_counted_and_nobodys_fault() -> None:
    dropped = Dropped()
    dropped.count(Drop.DUPLICATE, "10.0.0.2", 5.0)
    assert (dropped.causes({}, 5.0, 16.0), dropped.counts[Drop.DUPLICATE]) == ([], 1)


def test_a_flood_from_many_addresses_is_remembered_in_part_only() -> None:
    dropped = Dropped()
    for number in range(1000):
        dropped.count(Drop.FORGED, f"10.0.{number // 250}.{number % 250}", 5.0)
    assert len(dropped.causes({}, 5.0, 16.0)) == 16
    assert dropped.counts[Drop.FORGED] == 1000
