"""Network splits and two hosts lost at once, on a real API server with KubeVirt and real agents: who lives, and what restarts where."""

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest

from quorate_core.facts import CertificateKind, Protection
from quorate_core.timing import Timing
from quorate_local import cables
from quorate_local.pool import LocalPool
from tests.cluster.armed import ArmedPool, Json, Wish, armed_pool

TIMING = Timing(licence_seconds=6, watchdog_seconds=2).values
"""Of the pool that `armed_pool` makes."""
BOUND_SECONDS = {
    CertificateKind.SILENCE: TIMING.release_after_silence_seconds,
    CertificateKind.EVICTION: TIMING.release_after_eviction_seconds,
    CertificateKind.CONFIRMED: TIMING.drain_seconds,
}
VMS = {
    "db-1": Wish(Protection.PROTECTED, 0),
    "db-2": Wish(Protection.PROTECTED, 0),
    "app-1": Wish(Protection.PROTECTED, 1),
    "app-2": Wish(Protection.PROTECTED, 1),
    "web-1": Wish(Protection.PROTECTED, 2),
    "web-2": Wish(Protection.PROTECTED, 2),
    "batch": Wish(Protection.BEST_EFFORT),
    "other": Wish(Protection.UNPROTECTED),
}


@pytest.fixture(scope="module")
def whole(cluster: LocalPool) -> Iterator[ArmedPool]:
    """Four real hosts in a pool that can lose two, with VMs on each of them."""
    if not cluster.isolated:
        pytest.skip("hosts have no network of their own without root: nothing can be cut between them")
    with armed_pool(cluster, "splitting", VMS, hosts=4, failures=2, begin_on=(1, 2, 3, 4)) as pool:
        yield pool


@pytest.fixture(autouse=True)
def put_right(whole: ArmedPool) -> Iterator[None]:
    """Whatever became of a test, the next one begins with hosts that are on and hear each other."""
    yield
    whole.local.heal()
    for host in whole.hosts.values():
        if not host.is_on():
            host.power_on()


@dataclass(frozen=True, slots=True)
class Before:
    """How things stood before the failure."""

    lives: dict[str, str]
    where: dict[str, str]
    planned: dict[str, str]
    runs: dict[str, int]
    at_seconds: float


def before(pool: ArmedPool) -> Before:
    """Now, in a steady pool."""
    pool.await_steady()
    pool.local.rack.reboot_after_seconds = None  # a server takes minutes to boot: longer than its VMs take to restart elsewhere
    runs = {name: len(history.runs) for name, history in pool.check_disks().items()}
    return Before({h: pool.incarnation(h) for h in pool.hosts}, pool.where(), pool.planned(), runs, time.monotonic())


def check_recovery(pool: ArmedPool, was: Before, lost: Collection[str], kinds: Collection[CertificateKind]) -> None:
    """The lost are certified on the right evidence, their VMs restarted once elsewhere, and nothing else was touched."""
    failovers = [pool.await_completed(host, was.lives[host]) for host in lost]
    for failover in failovers:
        check_certificate(failover["spec"]["certificate"], pool.hosts.keys() - set(lost), kinds)
        pool.check_order(failover)
    pool.local.eventually(lambda: set(pool.where()) == set(VMS), "every VM runs again", deadline_seconds=120)
    there = pool.where()
    assert not set(there.values()) & set(lost)
    affected = {name for name, host in was.where.items() if host in lost}
    assert {name: there[name] for name in VMS if name not in affected} == {n: h for n, h in was.where.items() if n not in affected}
    runs = {name: len(history.runs) for name, history in pool.check_disks().items()}
    assert runs == {name: count + (name in affected) for name, count in was.runs.items()}, "restarted once, and only what had to be"
    assert {h: pool.incarnation(h) for h in pool.hosts if h not in lost} == {h: i for h, i in was.lives.items() if h not in lost}


def check_certificate(certificate: Json, issuers: Collection[str], kinds: Collection[CertificateKind]) -> None:
    """Issued by a survivor, on one of these kinds of evidence, after its bound."""
    kind = CertificateKind(certificate["kind"])
    assert kind in kinds
    assert certificate["issuedBy"] in issuers
    assert certificate["silentSeconds"] >= certificate["boundSeconds"] >= BOUND_SECONDS[kind]


def await_joining(pool: ArmedPool, was: Before, hosts: Collection[str]) -> None:
    """The evicted are reset, boot again, and wait: they do not arm while they do not hear the others."""
    pool.local.eventually(
        lambda: set(hosts) <= {name for at, name in pool.local.rack.resets if at > was.at_seconds}, "the watchdog has reset them"
    )
    for host in hosts:
        pool.hosts[host].power_on()

    def agent(host: str) -> Json:
        found: Json = pool.get(f"hahosts/{host}")["status"]["agent"]
        return found

    pool.local.eventually(
        lambda: all(agent(h).get("incarnation") not in (None, was.lives[h]) for h in hosts), "their agents are back", deadline_seconds=120
    )
    assert [h for h in hosts if agent(h).get("armed")] == []


EVICTED = (CertificateKind.EVICTION, CertificateKind.CONFIRMED)


def test_of_a_split_3_to_1_the_three_live_and_the_one_is_evicted_also_while_kubernetes_calls_it_ready(whole: ArmedPool) -> None:
    was = before(whole)
    lost = {whole.busiest().name}
    whole.local.split(whole.hosts.keys() - lost, lost)
    check_recovery(whole, was, lost, EVICTED)
    affected = [name for name in whole.protected if was.where[name] in lost]
    assert affected
    assert {name: whole.where()[name] for name in affected} == {name: was.planned[name] for name in affected}
    await_joining(whole, was, lost)
    whole.local.heal()
    whole.await_steady()
    whole.check_disks()


def test_of_a_split_2_to_2_the_side_with_the_lowest_slot_lives_also_when_the_other_has_lost_the_api_server_too(whole: ArmedPool) -> None:
    was = before(whole)
    by_slot = sorted(whole.hosts, key=whole.slot)
    lost = set(by_slot[1:3])
    assert any(was.where[name] in lost for name in whole.protected)
    whole.local.split(whole.hosts.keys() - lost, lost)
    for host in lost:
        whole.local.cut(host, cables.API)
    check_recovery(whole, was, lost, EVICTED)
    whole.local.heal()
    for host in lost:
        whole.local.eventually(lambda host=host: not whole.hosts[host].is_on(), f"the watchdog resets {host}")  # type: ignore[misc]
        whole.hosts[host].power_on()
    whole.await_steady()
    whole.check_disks()


@pytest.mark.nightly
def test_two_hosts_that_lose_their_power_together_are_both_certified_and_their_vms_restart_on_the_other_two(whole: ArmedPool) -> None:
    was = before(whole)
    places = list(was.where.values())
    lost = set(sorted(whole.hosts, key=places.count)[-2:])
    for host in lost:
        whole.hosts[host].power_off()
    check_recovery(whole, was, lost, (CertificateKind.SILENCE,))
    assert all(whole.out_of_service(host) for host in lost)
    for host in lost:
        whole.hosts[host].power_on()
    whole.await_steady()
    whole.check_disks()
