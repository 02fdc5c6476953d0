"""Webhooks and policies: every path is served, and nothing on the way of a restart can wait for Quorate."""

import ast
from pathlib import Path

import pytest

from quorate_controller.admission import server
from quorate_core.facts import Protection

from .rendering import OUTSIDE, only, rendered

MUST_NOT_BLOCK = {"vm-stop.quorate.dev", "vm-request.quorate.dev", "pool.quorate.dev", "launcher-host.quorate.dev"}


def webhooks(*values: str) -> dict[str, dict]:  # type: ignore[type-arg]  # JSON
    manifests = rendered(*values)
    kinds = ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    return {webhook["name"]: webhook for kind in kinds for webhook in only(manifests, kind)["webhooks"]}


def served_paths() -> set[str]:
    """Paths that the admission server routes."""
    tree = ast.parse(Path(server.__file__).read_text())
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr == "add_post"]
    return {call.args[0].value for call in calls if isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)}


def test_every_webhook_calls_a_path_that_the_controller_serves() -> None:
    served = served_paths()
    assert served
    inside = {webhook["clientConfig"]["service"]["path"] for webhook in webhooks().values()}
    outside = {webhook["clientConfig"]["url"].removeprefix("https://127.0.0.1:9443") for webhook in webhooks(*OUTSIDE).values()}
    assert inside == served
    assert outside == served


def test_only_what_takes_memory_or_gives_a_promise_may_fail_closed() -> None:
    found = webhooks()
    closed = {name for name, webhook in found.items() if webhook["failurePolicy"] == "Fail"}
    assert closed == {"vm-start.quorate.dev", "quorate-api.quorate.dev"}
    assert found.keys() - closed == MUST_NOT_BLOCK
    assert {w["failurePolicy"] for w in webhooks("webhook.failurePolicy=Ignore").values()} == {"Ignore"}


@pytest.mark.parametrize("name", sorted(webhooks()))
def test_no_webhook_judges_the_machinery_or_its_namespaces(name: str) -> None:
    webhook = webhooks("webhook.excludedNamespaces={infra}")[name]
    if "namespaceSelector" in webhook:
        excluded = webhook["namespaceSelector"]["matchExpressions"][0]
        assert excluded["operator"] == "NotIn"
        assert set(excluded["values"]) == {"kube-system", "quorate-system", "kubevirt", "infra"}
    else:
        assert webhook["rules"][0]["scope"] == "Cluster"
    if name != "launcher-host.quorate.dev":
        machinery = next(c["expression"] for c in webhook["matchConditions"] if c["name"] == "not-the-machinery")
        assert "system:kube-controller-manager" in machinery
        assert "kubevirt-(controller|handler|operator)" in machinery
        assert "system:serviceaccounts:quorate-system" in machinery


@pytest.mark.parametrize("name", sorted(webhooks()))
def test_every_webhook_answers_in_time_and_respects_dry_run(name: str) -> None:
    webhook = webhooks()[name]
    assert webhook["timeoutSeconds"] <= 10
    assert webhook["sideEffects"] in {"None", "NoneOnDryRun"}
    assert webhook["admissionReviewVersions"] == ["v1"]


def test_no_webhook_sees_pods_that_are_no_launchers() -> None:
    for webhook in webhooks().values():
        if any("pods" in rule["resources"] for rule in webhook["rules"]):
            assert webhook["objectSelector"] == {"matchLabels": {"kubevirt.io": "virt-launcher"}}
            assert webhook["failurePolicy"] == "Ignore"


def test_launchers_are_held_only_while_a_pool_recovers_and_never_because_the_policy_fails() -> None:
    policy = only(rendered(), "MutatingAdmissionPolicy")["spec"]
    assert policy["failurePolicy"] == "Ignore"
    assert policy["paramKind"] == {"apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool"}
    assert any("'Recovering'" in condition["expression"] for condition in policy["matchConditions"])
    assert '"quorate.dev/recovery"' in policy["mutations"][0]["applyConfiguration"]["expression"]
    binding = only(rendered(), "MutatingAdmissionPolicyBinding")["spec"]
    assert binding["paramRef"] == {"selector": {}, "parameterNotFoundAction": "Allow"}


def test_protections_named_in_conditions_exist() -> None:
    (asks,) = [c["expression"] for c in webhooks()["quorate-api.quorate.dev"]["matchConditions"] if c["name"] == "asks-for-more"]
    assert f"'{Protection.PROTECTED}'" in asks
