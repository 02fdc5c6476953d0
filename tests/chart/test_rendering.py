"""The chart renders with every sensible set of values, refuses the others, and says what its README says."""

import base64

import pytest
from cryptography import x509

from .rendering import CHART, OUTSIDE, helm, only, rendered


def test_the_chart_passes_helm_lint_strictly() -> None:
    done = helm("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert "[ERROR]" not in done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize(
    "values",
    [
        (),
        OUTSIDE,
        ("webhook.enabled=false",),
        ("policies.enabled=false",),
        ("policies.holdGate=None",),
        ("crds.install=false",),
        ("rbac.create=false",),
        ("webhook.existingSecret=mine", "webhook.caBundle=Q0E="),
        ("agent.heartbeatClaim=disk", "agent.hostPaths={/srv/a,/srv/b}", "agent.updateStrategy=RollingUpdate"),
        ("imageRegistry=registry.example/team", "imagePullSecrets[0].name=pull", "controller.nodeSelector.role=infra"),
    ],
    ids=lambda values: ",".join(values) or "defaults",
)
def test_every_manifest_has_a_kind_a_name_and_is_rendered_once(values: tuple[str, ...]) -> None:
    manifests = rendered(*values)
    names = [(m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests]
    assert len(set(names)) == len(names)
    kinds = {m["kind"] for m in manifests}
    assert ("CustomResourceDefinition" in kinds) == ("crds.install=false" not in values)
    assert ("ClusterRole" in kinds) == ("rbac.create=false" not in values)
    assert ("ValidatingAdmissionPolicy" in kinds) == ("policies.enabled=false" not in values)
    assert ("MutatingAdmissionPolicy" in kinds) == (not {"policies.enabled=false", "policies.holdGate=None"} & set(values))
    assert ("ValidatingWebhookConfiguration" in kinds) == ("webhook.enabled=false" not in values)
    assert ("Deployment" in kinds) == (values != OUTSIDE)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("controller.replicas=0", "controller.replicas"),
        ("controler.replicas=2", "controler"),
        ("webhook.failurePolicy=Maybe", "webhook.failurePolicy"),
        ("webhook.url=http://plain", "webhook.url"),
        ("agent.runDir=/var/lib/quorate", "agent.runDir"),
        ("webhook.url=https://somewhere", "webhook.existingSecret"),
        ("webhook.existingSecret=mine", "webhook.caBundle"),
    ],
)
def test_a_wrong_value_is_refused_by_name(value: str, named: str) -> None:
    done = helm("template", "quorate", str(CHART), "--set", value)
    assert done.returncode != 0
    key = named.split(".")[-1]
    assert key in done.stderr


def test_the_self_signed_certificate_is_for_the_service_and_trusted_by_every_webhook() -> None:
    manifests = rendered()
    secret = only(manifests, "Secret", "quorate-webhook")["data"]
    service = only(manifests, "Service", "quorate-webhook")["metadata"]
    certificate = x509.load_pem_x509_certificate(base64.b64decode(secret["tls.crt"]))
    authority = x509.load_pem_x509_certificate(base64.b64decode(secret["ca.crt"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)
    assert f"{service['name']}.{service['namespace']}.svc" in names
    certificate.verify_directly_issued_by(authority)
    for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"):
        for webhook in only(manifests, kind)["webhooks"]:
            assert webhook["clientConfig"]["caBundle"] == secret["ca.crt"]
    mounted = {v["name"]: v for v in only(manifests, "Deployment")["spec"]["template"]["spec"]["volumes"]}
    assert mounted["webhook"]["secret"]["secretName"] == "quorate-webhook"


def test_a_controller_outside_the_cluster_leaves_only_what_the_api_server_needs() -> None:
    manifests = rendered(*OUTSIDE)
    kinds = {m["kind"] for m in manifests}
    assert not kinds & {"Deployment", "DaemonSet", "Service", "PodDisruptionBudget"}
    assert {"CustomResourceDefinition", "ClusterRole", "ServiceAccount", "ValidatingWebhookConfiguration"} <= kinds
    for webhook in only(manifests, "ValidatingWebhookConfiguration")["webhooks"]:
        assert webhook["clientConfig"] == {"url": "https://127.0.0.1:9443/validate", "caBundle": "Q0E="}


def test_nobody_configures_webhooks_that_nobody_answers() -> None:
    kinds = {m["kind"] for m in rendered("controller.enabled=false", "agent.enabled=false")}
    assert "ValidatingWebhookConfiguration" not in kinds
    assert "MutatingWebhookConfiguration" not in kinds


def test_crds_are_kept_when_the_chart_is_removed() -> None:
    crds = [m for m in rendered() if m["kind"] == "CustomResourceDefinition"]
    assert {m["spec"]["names"]["kind"] for m in crds} == {"HAPool", "HAHost", "ProtectedVM", "Failover"}
    assert all(m["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for m in crds)


def test_the_heartbeat_key_is_long_enough_and_can_be_given() -> None:
    made = only(rendered(), "Secret", "quorate-heartbeat")["data"]["key"]
    assert len(base64.b64decode(made)) >= 16
    assert (
        only(rendered("heartbeat.key=QUJDREVGR0hJSktMTU5PUA=="), "Secret", "quorate-heartbeat")["data"]["key"] == "QUJDREVGR0hJSktMTU5PUA=="
    )
    assert "quorate-heartbeat" not in [m["metadata"]["name"] for m in rendered("heartbeat.createSecret=false") if m["kind"] == "Secret"]
