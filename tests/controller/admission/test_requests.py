"""What an AdmissionReview asks, by old and new object."""

from typing import Any

import pytest

from quorate_controller.admission.requests import (
    BadReview,
    EditVm,
    StartVm,
    StopVm,
    asks,
    from_machinery,
    parse,
)
from tests.controller.admission.objects import request, review, vm

GROWN = vm("a", 4, "Always")
START = {"action": "Start"}
STOP = {"action": "Stop", "uid": "1"}


def asking(*state_changes: dict[str, str]) -> dict[str, Any]:
    return {**vm("a", strategy="Manual"), "status": {"stateChangeRequests": list(state_changes)}}


def running(value: bool) -> dict[str, Any]:
    changed = vm("a")
    del changed["spec"]["runStrategy"]
    changed["spec"]["running"] = value
    return changed


CASES: list[tuple[str, dict[str, Any] | None, dict[str, Any] | None, str, list[type]]] = [
    ("created to run", vm("a", strategy="Always"), None, "", [StartVm]),
    ("created to run after failures", vm("a", strategy="RerunOnFailure"), None, "", [StartVm]),
    ("created off", vm("a"), None, "", []),
    ("created off with a label", vm("a", labels={"quorate.dev/protection": "Protected"}), None, "", [EditVm]),
    ("Halted to Always", vm("a", strategy="Always"), vm("a"), "", [StartVm]),
    ("running false to true", running(True), running(False), "", [StartVm]),
    ("Always to Halted", vm("a"), vm("a", strategy="Always"), "", [StopVm]),
    ("running true to false", running(False), running(True), "", [StopVm]),
    ("Manual to Halted", vm("a"), vm("a", strategy="Manual"), "", [StopVm]),
    ("Halted to Manual", vm("a", strategy="Manual"), vm("a"), "", []),
    ("memory grows", GROWN, vm("a", 2, "Always"), "", [EditVm]),
    ("started and grown at once", GROWN, vm("a", 2), "", [StartVm, EditVm]),
    ("labelled", vm("a", labels={"quorate.dev/protection": "Protected"}), vm("a"), "", [EditVm]),
    ("another label", vm("a", labels={"x": "y"}), vm("a"), "", []),
    ("deleted", None, vm("a"), "", [StopVm]),
    ("start requested", asking(START), asking(), "status", [StartVm]),
    ("stop requested", asking(STOP), asking(), "status", [StopVm]),
    ("restart requested", asking(STOP, START), asking(), "status", [StartVm]),
    ("a request that is there already", asking(START), asking(START), "status", []),
    ("a request that is done", asking(), asking(START), "status", []),
]


@pytest.mark.parametrize(("new", "old", "subresource", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_an_update_asks_for(new: dict[str, Any] | None, old: dict[str, Any] | None, subresource: str, expected: list[type]) -> None:
    assert [type(ask) for ask in asks(request(new, old, subresource=subresource))] == expected


@pytest.mark.parametrize(
    ("user", "groups", "machinery"),
    [
        ("system:serviceaccount:kubevirt:kubevirt-controller", (), True),
        ("system:serviceaccount:kubevirt:kubevirt-apiserver", (), False),
        ("system:serviceaccount:kube-system:namespace-controller", ("system:serviceaccounts:kube-system",), True),
        ("system:serviceaccount:quorate-system:quorate-controller", ("system:serviceaccounts:quorate-system",), True),
        ("system:serviceaccount:shop:deployer", ("system:serviceaccounts:shop",), False),
        ("system:kube-controller-manager", (), True),
        ("system:node:n1", ("system:nodes",), True),
        ("system:admin", ("system:masters",), False),
        ("alice", (), False),
    ],
)
def test_people_are_told_from_the_machinery(user: str, groups: tuple[str, ...], machinery: bool) -> None:
    assert from_machinery(request(vm("a"), user=user, groups=groups), "quorate-system") is machinery


@pytest.mark.parametrize("body", [{}, {"kind": "AdmissionReview"}, {"request": {"uid": "u"}}, {"kind": "AdmissionReview", "request": {}}])
def test_what_is_no_review_is_said_to_be_none(body: dict[str, Any]) -> None:
    with pytest.raises(BadReview):
        parse(body)


def test_a_generated_name_does_not_make_two_creates_one() -> None:
    body = review(vm("", strategy="Always"))
    body["request"]["object"]["metadata"] = {"generateName": "job-", "namespace": "d"}
    body["request"]["name"] = ""
    (ask,) = asks(parse(body))
    assert isinstance(ask, StartVm)
    assert ask.vm["metadata"]["name"] == "job-u-1"
