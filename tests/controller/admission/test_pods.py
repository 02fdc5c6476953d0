"""Launcher pods stay where their memory is reserved, and pass in every other case."""

from typing import Any

import pytest

from quorate_controller.admission import pods
from quorate_controller.admission.store import decode, encode
from quorate_controller.observe import BadInput
from quorate_core.facts import Protection
from quorate_core.ledger import Ledger, Reservation, ReservationKind
from tests.controller.admission.objects import cluster, hahost, launcher

START = Reservation(ReservationKind.START, "d/a", "r", size_bytes=1, host="n1", pinned=True)
NAME = {"key": "metadata.name", "operator": "In", "values": ["n1"]}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def required(pod: dict[str, Any]) -> list[dict[str, Any]]:
    affinity = next(op["value"] for op in pods.patch(pod, "n1") if op["path"] == "/spec/affinity")
    terms: list[dict[str, Any]] = affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    return terms


def test_the_launcher_pod_of_a_reserved_start_is_kept_on_its_host() -> None:
    assert pods.reservation_for(launcher("a", None), [Ledger(), Ledger((START,))]) == START
    assert required(launcher("a", None)) == [{"matchFields": [NAME]}]


def test_the_users_own_affinity_stays_and_every_alternative_is_narrowed() -> None:
    pod = launcher("a", None)
    zone = {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}
    rack = {"matchExpressions": [{"key": "rack", "operator": "Exists"}]}
    pod["spec"]["affinity"] = {"podAntiAffinity": {"x": 1}, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [zone, rack]}}}
    assert required(pod) == [{**zone, "matchFields": [NAME]}, {**rack, "matchFields": [NAME]}]
    assert pods.patch(pod, "n1")[0]["value"]["podAntiAffinity"] == {"x": 1}


def test_migration_targets_unpinned_entries_and_other_pods_go_their_way() -> None:
    target = launcher("a", None)
    target["metadata"]["labels"]["kubevirt.io/migrationJobUID"] = "m"
    assert pods.reservation_for(target, [Ledger((START,))]) is None
    assert pods.reservation_for(launcher("other", None), [Ledger((START,))]) is None
    unpinned = Reservation(ReservationKind.START, "d/a", "r", host="n1")
    assert pods.reservation_for(launcher("a", None), [Ledger((unpinned,))]) is None


@pytest.mark.parametrize(
    ("host", "recovering", "pin"),
    [
        (hahost("n1"), frozenset(), True),
        (None, frozenset(), False),
        (hahost("n1", maintenance=True), frozenset(), False),
        ({**hahost("n1"), "status": {"phase": "Fenced"}}, frozenset(), False),
        (hahost("n1"), frozenset({"d/a"}), False),
    ],
    ids=["live", "no such host", "maintenance", "fenced", "in a failover"],
)
def test_no_pod_is_tied_to_a_host_that_cannot_take_it(host: dict[str, Any] | None, recovering: frozenset[str], pin: bool) -> None:
    assert pods.may_pin(START, host, recovering) is pin


@pytest.mark.parametrize(
    ("bound", "hosts", "expected"),
    [
        (None, (hahost("n1"),), 0),
        (None, ({**hahost("n1"), "status": {"phase": "Fenced"}},), 1),
        (None, (hahost("n1", maintenance=True),), 1),
        ("n1", ({**hahost("n1"), "status": {"phase": "Fenced"}},), 0),
    ],
    ids=["its host is live", "its host is dead", "its host is in maintenance", "it is there already"],
)
def test_a_launcher_pod_does_not_wait_for_a_host_that_is_gone(bound: str | None, hosts: tuple[dict[str, Any], ...], expected: int) -> None:
    pod = launcher("a", bound)
    pod["metadata"]["annotations"][pods.RESERVED_HOST] = "n1"
    assert len(pods.stranded(cluster(hahosts=hosts, pods=(pod, launcher("other", None))))) == expected


def test_a_launcher_pod_does_not_wait_for_a_node_that_was_removed() -> None:
    pod = launcher("a", None)
    pod["metadata"]["annotations"][pods.RESERVED_HOST] = "n9"
    assert pods.stranded(cluster(pods=(pod,))) == (pod,)


def test_the_ledger_survives_its_configmap() -> None:
    full = Ledger(
        (
            START,
            Reservation(
                ReservationKind.START,
                "d/b",
                "r2",
                7,
                "n2",
                restart=True,
                protection=Protection.PROTECTED,
                priority=3,
                allowed=frozenset({"n2", "n1"}),
            ),
            Reservation(ReservationKind.TOLERATE, "p", "r3", tolerate=2),
        )
    )
    assert decode({"metadata": {"name": "l"}, "data": {"ledger.json": encode(full)}}) == full


@pytest.mark.parametrize("data", [{}, {"ledger.json": "{"}, {"ledger.json": '{"entries":[{"kind":"?"}]}'}])
def test_a_damaged_ledger_is_never_taken_for_an_empty_one(data: dict[str, str]) -> None:
    with pytest.raises(BadInput, match=r"ConfigMap ns/l: data\[ledger.json\]: damaged"):
        decode({"metadata": {"namespace": "ns", "name": "l"}, "data": data})
