"""Where a host stands and which certificate is believed, case by case."""

from dataclasses import replace

import pytest

from quorate_core.facts import CertificateKind, HostPhase
from quorate_core.hostphase import Claim, HostFacts, judge
from quorate_core.timing import Timing

BOUND = 23.0
TIMING = Timing(6, 2).values
"""R_s = 23 s, R_e = 21 s, q = 5 s."""
LIFE = {"a": "a" * 16, "b": "b" * 16, "c": "c" * 16}


def host(name: str, sees: str = "abc", **changes: object) -> HostFacts:
    facts = HostFacts(
        name,
        incarnation=LIFE[name],
        state="Armed",
        armed=True,
        watchdog_armed=True,
        sees_storage=frozenset(sees),
        sees_network=frozenset(sees),
    )
    return replace(facts, **changes)  # type: ignore[arg-type]


def claim(victim: str, issuer: str, **changes: object) -> Claim:
    return replace(Claim(victim, LIFE[victim], issuer, 24.0, BOUND), **changes)  # type: ignore[arg-type]


def test_armed_hosts_that_see_each_other_are_live() -> None:
    assert {v.phase for v in judge([host("a"), host("b"), host("c")], TIMING).values()} == {HostPhase.LIVE}


def test_a_host_seen_on_one_channel_only_is_live() -> None:
    peers = [host(n, sees_storage=frozenset("ab"), sees_network=frozenset("abc")) for n in "ab"]
    assert judge([*peers, host("c")], TIMING)["c"].phase is HostPhase.LIVE


def test_a_host_that_no_armed_peer_sees_is_lost_but_not_dead() -> None:
    verdict = judge([host("a", "ab"), host("b", "ab"), host("c")], TIMING)["c"]
    assert (verdict.phase, verdict.certificate) == (HostPhase.LOST, None)
    assert "none has certified its death yet" in verdict.why


def test_a_host_without_an_armed_peer_is_not_called_lost() -> None:
    peers = [host(n, "", armed=False, state="Joining") for n in "ab"]
    assert judge([*peers, host("c")], TIMING)["c"].phase is HostPhase.LIVE


def test_a_certified_host_is_fenced_even_in_maintenance() -> None:
    hosts = [host("a", "ab", issued=(claim("c", "a"),)), host("b", "ab"), host("c", maintenance=True)]
    verdict = judge(hosts, TIMING)["c"]
    assert verdict.phase is HostPhase.FENCED
    assert verdict.certificate == claim("c", "a")


@pytest.mark.parametrize(
    ("state", "changes", "phase"),
    [
        ("Starting", {"armed": False, "incarnation": None}, HostPhase.JOINING),
        ("Joining", {"armed": False}, HostPhase.JOINING),
        ("Disarmed", {"armed": False}, HostPhase.JOINING),
        ("Refused", {"armed": False}, HostPhase.EXCLUDED),
        ("Fencing", {"armed": True}, HostPhase.LOST),
        ("Armed", {"maintenance": True}, HostPhase.MAINTENANCE),
    ],
)
def test_the_agents_own_word_gives_the_phase_where_nothing_stronger_does(state: str, changes: dict[str, object], phase: HostPhase) -> None:
    assert judge([host("a"), host("b"), host("c", state=state, **changes)], TIMING)["c"].phase is phase


@pytest.mark.parametrize(
    ("issued", "victim", "words"),
    [
        (claim("c", "a", incarnation="d" * 16), {}, "stale"),
        (claim("c", "a", silent_seconds=22.0), {}, "watched silent for 22 s only"),
        (claim("c", "a", bound_seconds=20.0), {}, "below the 23 s"),
        (claim("c", "a", silent_seconds=float("nan")), {}, "watched silent"),
        (claim("c", "a", bound_seconds=float("nan")), {}, "below the 23 s"),
        (claim("c", "b"), {}, "names b as issuer"),
        (claim("c", "a"), {"armed": False, "watchdog_armed": False, "state": "Joining"}, "not under its watchdog"),
        (claim("c", "a"), {"incarnation": None}, "never reported"),
    ],
)
def test_a_certificate_with_a_flaw_is_rejected_in_words(issued: Claim, victim: dict[str, object], words: str) -> None:
    verdict = judge([host("a", "ab", issued=(issued,)), host("b", "ab"), host("c", **victim)], TIMING)["c"]
    assert verdict.certificate is None
    assert verdict.phase is not HostPhase.FENCED
    assert words in verdict.rejected[0]


def test_a_host_that_says_it_fences_can_still_be_certified() -> None:
    hosts = [host("a", "ab", issued=(claim("c", "a"),)), host("c", state="Fencing", armed=False, watchdog_armed=False)]
    assert judge(hosts, TIMING)["c"].phase is HostPhase.FENCED


def test_an_unarmed_issuer_is_not_believed() -> None:
    hosts = [host("a", armed=False, state="Joining", issued=(claim("c", "a"),)), host("b", "ab"), host("c")]
    verdict = judge(hosts, TIMING)["c"]
    assert verdict.certificate is None
    assert "is not armed" in verdict.rejected[0]


def test_of_two_hosts_that_certify_each_other_neither_is_believed() -> None:
    hosts = [host("a", issued=(claim("b", "a"),)), host("b", issued=(claim("a", "b"),)), host("c")]
    verdicts = judge(hosts, TIMING)
    assert verdicts["a"].certificate is None
    assert verdicts["b"].certificate is None


def test_a_dead_host_cannot_certify_but_what_was_accepted_from_it_stays() -> None:
    accepted = claim("a", "b")
    hosts = [host("a", accepted=accepted), host("b", issued=(accepted,)), host("c", "c", issued=(claim("b", "c"),))]
    verdicts = judge(hosts, TIMING)
    assert verdicts["a"].certificate == accepted
    assert verdicts["b"].certificate == claim("b", "c")
    fresh = judge([host("a"), *hosts[1:]], TIMING)
    assert fresh["a"].certificate is None
    assert "itself certified dead" in fresh["a"].rejected[0]


def test_a_host_that_returns_with_a_new_incarnation_joins_again() -> None:
    back = host("c", incarnation="d" * 16, armed=False, state="Joining", accepted=claim("c", "a"))
    hosts = [host("a", "ab", issued=(claim("c", "a"),)), host("b", "ab"), back]
    verdict = judge(hosts, TIMING)["c"]
    assert (verdict.phase, verdict.certificate) == (HostPhase.JOINING, None)


def test_the_bound_follows_the_watchdog_that_the_victim_really_has() -> None:
    victim = host("c", bound_seconds=29.0)
    assert judge([host("a", "ab", issued=(claim("c", "a"),)), victim], TIMING)["c"].certificate is None
    longer = claim("c", "a", silent_seconds=29.5, bound_seconds=29.0)
    assert judge([host("a", "ab", issued=(longer,)), victim], TIMING)["c"].certificate == longer


@pytest.mark.parametrize(
    ("kind", "waited", "bound", "believed"),
    [
        (CertificateKind.EVICTION, 21.0, 21.0, True),
        (CertificateKind.EVICTION, 20.0, 20.0, False),
        (CertificateKind.SILENCE, 21.0, 21.0, False),
        (CertificateKind.CONFIRMED, 5.0, 5.0, True),
        (CertificateKind.CONFIRMED, 4.0, 4.0, False),
    ],
)
def test_each_kind_of_evidence_has_its_own_bound(kind: CertificateKind, waited: float, bound: float, believed: bool) -> None:
    issued = claim("c", "a", kind=kind, silent_seconds=waited, bound_seconds=bound)
    verdict = judge([host("a", "ab", issued=(issued,)), host("b", "ab"), host("c")], TIMING)["c"]
    assert (verdict.certificate is not None) == believed
    longer = judge([host("a", "ab", issued=(issued,)), host("b", "ab"), host("c", eviction_bound_seconds=30.0, bound_seconds=32.0)], TIMING)
    assert (longer["c"].certificate is not None) == (kind is CertificateKind.CONFIRMED and believed), "its own watchdog counts"


def test_without_a_timing_that_can_work_nothing_proves_a_death() -> None:
    issued = claim("c", "a", kind=CertificateKind.CONFIRMED, silent_seconds=1e6, bound_seconds=1e6)
    assert judge([host("a", "ab", issued=(issued,)), host("c")], None)["c"].certificate is None


def test_an_evicted_host_is_called_evicted_until_it_is_certified_and_only_in_the_incarnation_that_was_evicted() -> None:
    peers = [host("a", evicted=(("c", LIFE["c"]),)), host("b")]
    verdict = judge([*peers, host("c")], TIMING)["c"]
    assert (verdict.phase, verdict.certificate) == (HostPhase.EVICTED, None)
    assert judge([*peers, host("c", incarnation="d" * 16)], TIMING)["c"].phase is HostPhase.LIVE
