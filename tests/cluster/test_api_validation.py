"""What the real API server says to wrong objects: every refusal names the object and the field, before any code of Quorate runs."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.cluster

EXAMPLES = Path(__file__).parents[2] / "examples"
# Webhooks leave this account alone: what is tested here is the API server with no controller behind it.
AS_CONTROLLER = (
    "--as=system:serviceaccount:quorate-system:quorate-controller",
    "--as-group=system:serviceaccounts:quorate-system",
    "--as-group=system:masters",
)
POOL: dict[str, Any] = {
    "apiVersion": "quorate.dev/v1alpha1",
    "kind": "HAPool",
    "metadata": {"name": "schema-test"},
    "spec": {"hostSelector": {"matchLabels": {"schema-test": "nobody"}}, "heartbeat": {"storage": {"devicePath": "/dev/heartbeat"}}},
}
HOST: dict[str, Any] = {
    "apiVersion": "quorate.dev/v1alpha1",
    "kind": "HAHost",
    "metadata": {"name": "schema-test"},
    "spec": {"pool": "schema-test"},
}
VM: dict[str, Any] = {
    "apiVersion": "quorate.dev/v1alpha1",
    "kind": "ProtectedVM",
    "metadata": {"name": "schema-test", "namespace": "default"},
    "spec": {"vmRef": {"name": "web"}, "protection": "Unprotected"},
}
CERTIFICATE = {
    "host": "h1",
    "incarnation": "0123456789abcdef",
    "issuedBy": "h2",
    "evidence": "59.1 s unchanged",
    "silentSeconds": 59.1,
    "boundSeconds": 59.0,
    "issuedAt": "2026-01-01T00:00:00Z",
}
FAILOVER: dict[str, Any] = {
    "apiVersion": "quorate.dev/v1alpha1",
    "kind": "Failover",
    "metadata": {"name": "schema-test"},
    "spec": {"pool": "p", "host": "h1", "incarnation": "0123456789abcdef", "generation": 1, "certificate": CERTIFICATE},
}


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with one more or other field; `...` takes it away."""
    result = copy.deepcopy(document)
    *parents, last = path.split(".")
    node = result
    for name in parents:
        node = node.setdefault(name, {})
    if value is ...:
        del node[last]
    else:
        node[last] = value
    return result


def apply(cluster: Any, document: dict[str, Any], *options: str, check: bool = True) -> str:
    said: str = cluster.kubectl("apply", *AS_CONTROLLER, *options, "-f", "-", stdin=json.dumps(document), check=check)
    return said


@pytest.fixture(scope="module")
def stored(cluster: Any) -> Iterator[None]:
    """One object of each kind, as it should be."""
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": [POOL, HOST, VM, FAILOVER]})
    cluster.kubectl("apply", *AS_CONTROLLER, "-f", "-", stdin=everything)
    yield
    cluster.kubectl("delete", *AS_CONTROLLER, "--ignore-not-found", "-f", "-", stdin=everything)


@pytest.mark.parametrize(
    ("document", "path", "value", "words"),
    [
        (POOL, "spec.hostFailureToTolerate", 2, ["HAPool", 'unknown field "spec.hostFailureToTolerate"']),
        (POOL, "spec.heartbeat.storage.device", "/dev/x", ['unknown field "spec.heartbeat.storage.device"']),
        (VM, "spec.vmRef.namespace", "other", ["ProtectedVM", 'unknown field "spec.vmRef.namespace"']),
        (POOL, "spec.heartbeat.storage.claimName", "disk", ["schema-test", "spec.heartbeat.storage", "exactly one of storageClassName"]),
        (POOL, "spec.heartbeat.storage", {}, ["spec.heartbeat.storage", "exactly one of storageClassName, claimName and devicePath"]),
        (POOL, "spec.heartbeat.storage", ..., ["spec.heartbeat.storage", "Required value"]),
        (
            POOL,
            "spec.heartbeat.storage.additionalDevicePaths",
            ["/dev/heartbeat"],
            ["spec.heartbeat.storage.additionalDevicePaths", "only once"],
        ),
        (
            changed(POOL, "spec.heartbeat.profile", "Fast"),
            "spec.heartbeat.timing",
            {"licenceSeconds": 6, "watchdogSeconds": 2},
            ["spec.heartbeat.timing", "profile or timing, not both"],
        ),
        (
            POOL,
            "spec.heartbeat.timing",
            {"licenceSeconds": 6, "watchdogSeconds": 6},
            ["spec.heartbeat.timing.watchdogSeconds", "smaller than licenceSeconds"],
        ),
        (POOL, "spec.hostFailuresToTolerate", -1, ["spec.hostFailuresToTolerate", "greater than or equal to 0"]),
        (POOL, "spec.overcommitPolicy", "Ignore", ["spec.overcommitPolicy", '"Refuse", "Warn"']),
        (POOL, "spec.heartbeat.network.port", 70000, ["spec.heartbeat.network.port", "65535"]),
        (
            POOL,
            "spec.hostSelector.matchExpressions",
            [{"key": "zone", "operator": "In"}],
            ["spec.hostSelector.matchExpressions[0].values", "In and NotIn need values"],
        ),
        (POOL, "metadata.name", "p" * 64, ["63 characters"]),
        (VM, "spec.protection", "Gold", ["spec.protection", '"Protected", "BestEffort", "Unprotected"']),
        (VM, "spec.priority", -5, ["spec.priority", "greater than or equal to 0"]),
        (VM, "spec.vmRef.kind", "Pod", ["spec.vmRef.kind", '"VirtualMachine"']),
        (VM, "spec.vmRef", ..., ["spec.vmRef", "Required value"]),
        (HOST, "spec.weight", -1, ["spec.weight", "greater than or equal to 0"]),
        (FAILOVER, "spec.certificate.host", "h9", ["spec.certificate", "the host and incarnation that failed"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_field_is_refused_by_name(cluster: Any, document: dict[str, Any], path: str, value: Any, words: list[str]) -> None:
    said = apply(cluster, changed(document, path, value), "--dry-run=server", check=False)
    for word in words:
        assert word in said


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("document", "path", "value", "words"),
    [
        (HOST, "spec.pool", "other", ["spec.pool", "a host's pool is never changed"]),
        (POOL, "spec.heartbeat.storage.devicePath", "/dev/other", ["spec.heartbeat.storage", "set enabled to false"]),
        (VM, "spec.vmRef.name", "other", ["spec.vmRef", "vmRef is never changed"]),
        (FAILOVER, "spec.generation", 2, ["spec", "is a record and is never changed"]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_identity_hangs_on_is_never_changed(cluster: Any, document: dict[str, Any], path: str, value: Any, words: list[str]) -> None:
    said = apply(cluster, changed(document, path, value), check=False)
    for word in words:
        assert word in said


@pytest.mark.usefixtures("stored")
@pytest.mark.usefixtures("stored")
def test_the_heartbeat_disks_of_a_disabled_pool_may_be_changed(cluster: Any) -> None:
    moved = changed(changed(POOL, "spec.heartbeat.storage.devicePath", "/dev/other"), "spec.enabled", False)
    assert "configured" in apply(cluster, moved, "--dry-run=server")


def taken_over(cluster: Any, value: Any, *, patch: Any = None) -> str:
    """Write the disks in force as the controller does; what the API server says to it."""
    body = json.dumps(patch if patch is not None else {"status": {"heartbeat": value}})
    kind = "json" if isinstance(patch, list) else "merge"
    said: str = cluster.kubectl(
        "patch", *AS_CONTROLLER, "hap", "schema-test", "--subresource=status", f"--type={kind}", "-p", body, check=False
    )
    return said


@pytest.fixture
def in_force(cluster: Any, stored: None) -> dict[str, Any]:
    """The second disks of the pool are in force: each time under a generation above all that other tests have left."""
    present = json.loads(cluster.kubectl("get", "hap", "schema-test", "-o", "json")).get("status", {}).get("heartbeat", {})
    wanted = {"storage": {"devicePath": "/dev/second", "additionalDevicePaths": []}, "generation": present.get("generation", 0) + 2}
    assert "patched" in taken_over(cluster, wanted)
    return wanted


def test_the_generation_of_the_disks_in_force_rises_whenever_they_change_and_never_falls(cluster: Any, in_force: dict[str, Any]) -> None:
    generation = in_force["generation"]
    first = {"devicePath": "/dev/first"}
    three = {"devicePath": "/dev/second", "additionalDevicePaths": ["/dev/x", "/dev/y"]}
    for wrong, words in [
        ({"generation": generation - 1}, "never falls"),
        ({"storage": first, "generation": generation - 1}, "never falls"),
        ({"storage": first}, "need a higher generation"),
        ({"storage": three}, "need a higher generation"),
        ({"storage": {"devicePath": None, "claimName": "second"}}, "need a higher generation"),
        ({"generation": 0}, "greater than or equal to 1"),
        ({"storage": {"claimName": "both"}, "generation": generation + 1}, "exactly one of"),
    ]:
        said = taken_over(cluster, wrong)
        assert "status.heartbeat" in said, said
        assert words in said, said
    found = json.loads(cluster.kubectl("get", "hap", "schema-test", "-o", "json"))["status"]["heartbeat"]
    assert found == in_force
    assert "patched" in taken_over(cluster, {"storage": first, "generation": generation + 1})
    assert "patched" in taken_over(cluster, {"storage": {"devicePath": "/dev/second"}, "generation": generation + 2})


@pytest.mark.parametrize(
    "patch",
    [
        {"status": {"heartbeat": None}},
        {"status": None},
        [{"op": "replace", "path": "/status", "value": {"phase": "Armed"}}],
        [{"op": "remove", "path": "/status/heartbeat/generation"}],
        [{"op": "remove", "path": "/status/heartbeat/storage"}],
    ],
    ids=["alone", "with the status", "another status", "the generation", "the disks"],
)
def test_the_disks_in_force_are_never_forgotten(cluster: Any, in_force: dict[str, Any], patch: Any) -> None:
    said = taken_over(cluster, None, patch=patch)
    assert "status.heartbeat" in said, said
    assert "never forgotten" in said or "Required value" in said, said
    assert json.loads(cluster.kubectl("get", "hap", "schema-test", "-o", "json"))["status"]["heartbeat"] == in_force


def test_whoever_writes_the_spec_cannot_touch_the_disks_in_force(cluster: Any, in_force: dict[str, Any]) -> None:
    forged = changed(POOL, "status", {"heartbeat": {"storage": {"devicePath": "/dev/third"}, "generation": 99}})
    apply(cluster, changed(forged, "spec.hostFailuresToTolerate", 2))
    cluster.kubectl("replace", *AS_CONTROLLER, "-f", "-", stdin=json.dumps(POOL))
    assert json.loads(cluster.kubectl("get", "hap", "schema-test", "-o", "json"))["status"]["heartbeat"] == in_force


def test_defaults_are_filled_in_by_the_api_server(cluster: Any) -> None:
    spec = json.loads(cluster.kubectl("get", "hap", "schema-test", "-o", "json"))["spec"]
    assert spec["enabled"] is True
    assert spec["hostFailuresToTolerate"] == 1
    assert spec["overcommitPolicy"] == "Refuse"
    assert spec["watchdog"] == {"device": "/dev/watchdog"}
    assert spec["heartbeat"]["network"] == {"port": 6940, "keySecretName": "quorate-heartbeat"}


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("short", "columns"),
    [
        ("hap", "NAME ARMED HOSTS LIVE TOLERATE PLANFOR MAX OVERCOMMITTED AGE"),
        ("hah", "NAME POOL PHASE ARMED STORAGE NETWORK WATCHDOG AGE"),
        ("pvm", "NAME PROTECTION PRIORITY AGILE HOST PLANNED PHASE AGE"),
        ("hafo", "NAME POOL HOST PHASE RUNNING BLOCKED AGE"),
    ],
)
def test_short_names_print_the_columns_of_the_design(cluster: Any, short: str, columns: str) -> None:
    assert cluster.kubectl("get", short).splitlines()[0].split() == columns.split()


@pytest.mark.usefixtures("stored")
def test_the_category_lists_every_kind(cluster: Any) -> None:
    listed = cluster.kubectl("get", "quorate", "-o", "name")
    for resource in ("hapool", "hahost", "protectedvm", "failover"):
        assert f"{resource}.quorate.dev/schema-test" in listed


def test_kubectl_explain_tells_effect_and_default(cluster: Any) -> None:
    said = " ".join(cluster.kubectl("explain", "hap.spec.hostFailuresToTolerate").split())
    assert "How many host failures the plan shall cover" in said
    assert "Default: 1" in said


@pytest.mark.usefixtures("stored")
def test_spec_and_status_have_separate_doors(cluster: Any) -> None:
    apply(cluster, changed(HOST, "status", {"slot": 7}))
    assert "status" not in json.loads(cluster.kubectl("get", "hah", "schema-test", "-o", "json"))
    cluster.kubectl(
        "patch",
        *AS_CONTROLLER,
        "hah",
        "schema-test",
        "--subresource=status",
        "--type=merge",
        "-p",
        '{"status":{"slot":7},"spec":{"weight":9}}',
    )
    host = json.loads(cluster.kubectl("get", "hah", "schema-test", "-o", "json"))
    assert host["status"] == {"slot": 7}
    assert host["spec"]["weight"] == 0


@pytest.mark.parametrize("name", ["hapool.yaml", "protected-vms.yaml", "best-effort.yaml"])
def test_the_examples_are_accepted(cluster: Any, name: str) -> None:
    said = cluster.kubectl("apply", *AS_CONTROLLER, "--dry-run=server", "-f", str(EXAMPLES / name))
    assert "(server dry run)" in said
