"""The CRDs: structural by the API server's rules, complete, and the same as the models."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import Field

from quorate_api import __main__ as generator
from quorate_api import schema
from quorate_api.base import ApiModel
from quorate_api.hapool import HAPool

ROOT = Path(__file__).parents[2]
CRDS = {model.KIND: schema.crd(model) for model in schema.KINDS}
FORBIDDEN = {"$ref", "$defs", "title", "anyOf", "oneOf", "allOf", "const", "exclusiveMinimum", "propertyNames", "prefixItems"}


def tree(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = CRDS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def walk(node: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, node
    for name, child in node.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    for keyword in ("items", "additionalProperties"):
        if isinstance(node.get(keyword), dict):
            yield from walk(node[keyword], f"{path}[]")


@pytest.mark.parametrize("kind", CRDS)
def test_every_node_is_structural(kind: str) -> None:
    for path, node in walk(tree(kind), kind):
        assert node["type"] in {"object", "array", "string", "integer", "number", "boolean"}, path
        assert not FORBIDDEN & node.keys(), path
        # The API server refuses both together.
        assert not ("properties" in node and "additionalProperties" in node), path
        if node["type"] == "array":
            assert "items" in node, path
            assert node["x-kubernetes-list-type"] in {"atomic", "map", "set"}, path


@pytest.mark.parametrize("kind", CRDS)
def test_every_field_is_described_for_kubectl_explain(kind: str) -> None:
    bare = [p for p, node in walk(tree(kind), kind) if not p.endswith(("[]", ".metadata")) and not node.get("description")]
    assert not bare


@pytest.mark.parametrize("kind", CRDS)
def test_every_list_and_text_is_bounded_so_that_rules_stay_cheap(kind: str) -> None:
    for path, node in walk(tree(kind), kind):
        if node["type"] == "array":
            assert "maxItems" in node, path
        # Label values are bounded by the API server; apiVersion and kind by itself.
        if node["type"] == "string" and not {"enum", "format", "pattern"} & node.keys() and path.count(".") > 1 and "Labels" not in path:
            assert "maxLength" in node, path


@pytest.mark.parametrize("kind", CRDS)
def test_no_number_may_be_negative(kind: str) -> None:
    for path, node in walk(tree(kind), kind):
        if node["type"] in {"integer", "number"}:
            assert node["minimum"] >= 0, path


@pytest.mark.parametrize("kind", CRDS)
def test_every_kind_has_status_subresource_category_short_name_and_age(kind: str) -> None:
    spec = CRDS[kind]["spec"]
    version = spec["versions"][0]
    assert version["subresources"] == {"status": {}}
    assert spec["names"]["categories"] == ["quorate"]
    assert spec["names"]["shortNames"]
    assert version["additionalPrinterColumns"][-1]["jsonPath"] == ".metadata.creationTimestamp"


@pytest.mark.parametrize("kind", CRDS)
def test_printer_columns_show_fields_that_exist(kind: str) -> None:
    fields = {path.removeprefix(kind) for path, _ in walk(tree(kind), kind)}
    for column in CRDS[kind]["spec"]["versions"][0]["additionalPrinterColumns"]:
        path = column["jsonPath"].split("[?")[0]
        assert path in fields or path.startswith(".metadata."), column["name"]


def test_hapool_prints_the_columns_of_the_design() -> None:
    columns = [c["name"] for c in CRDS["HAPool"]["spec"]["versions"][0]["additionalPrinterColumns"] if c["priority"] == 0]
    assert columns == ["Armed", "Hosts", "Live", "Tolerate", "PlanFor", "Max", "Overcommitted", "Age"]


@pytest.mark.parametrize(
    ("kind", "path", "rule"),
    [
        ("HAPool", "spec.heartbeat.storage", "has(self.claimName)"),
        ("HAPool", "spec.heartbeat", "has(self.timing)"),
        ("HAPool", "spec.heartbeat.timing", "self.watchdogSeconds < self.licenceSeconds"),
        ("HAPool", "spec.hostSelector.matchExpressions[]", "self.operator"),
        ("HAPool", "status.heartbeat", "self.generation >= oldSelf.generation"),
        ("HAPool", "status.heartbeat", "self.storage == oldSelf.storage"),
        ("HAPool", "", "has(self.status.heartbeat)"),
        ("HAHost", "spec.pool", "self == oldSelf"),
        ("ProtectedVM", "spec.vmRef", "self == oldSelf"),
        ("Failover", "", "self.spec == oldSelf.spec"),
        ("Failover", "spec", "self.certificate.host == self.host"),
    ],
)
def test_cross_field_rules_stand_where_they_belong_and_say_what_is_wrong(kind: str, path: str, rule: str) -> None:
    nodes = dict(walk(tree(kind), kind))
    found = [r for r in nodes[f"{kind}.{path}".rstrip(".")]["x-kubernetes-validations"] if rule in r["rule"]]
    assert len(found) == 1
    assert found[0]["message"]


def test_status_never_defaults_to_something_nobody_has_seen() -> None:
    for kind in CRDS:
        for path, node in walk(tree(kind), kind):
            if path.startswith(f"{kind}.status") and node["type"] == "object":
                assert "default" not in node, path


def test_defaults_reach_into_objects_that_the_user_left_out() -> None:
    spec = tree("HAPool")["properties"]["spec"]["properties"]
    assert spec["watchdog"]["default"] == {}
    assert spec["watchdog"]["properties"]["device"]["default"] == "/dev/watchdog"
    assert spec["heartbeat"]["properties"]["network"]["default"] == {}
    assert "default" not in spec["heartbeat"]["properties"]["storage"]


def test_bytes_are_64_bit_and_counts_fit_32() -> None:
    nodes = dict(walk(tree("HAHost"), "HAHost"))
    assert nodes["HAHost.status.memory.freeBytes"]["format"] == "int64"
    assert nodes["HAHost.status.observedGeneration"]["format"] == "int64"
    assert nodes["HAHost.status.slot"]["format"] == "int32"
    assert dict(walk(tree("HAPool"), "HAPool"))["HAPool.status.heartbeat.generation"]["format"] == "int64"
    assert nodes["HAHost.status.certificate.issuedAt"]["format"] == "date-time"


def test_a_constraint_that_a_crd_cannot_say_is_an_error_and_not_left_out() -> None:
    class Odd(ApiModel):
        amount: int = Field(gt=0)

    class Either(ApiModel):
        value: int | str = 0

    for model in (Odd, Either):
        with pytest.raises(schema.NotStructural):
            schema._convert(model.model_json_schema(), {}, "Odd")


def test_a_literal_becomes_an_enumeration() -> None:
    class One(ApiModel):
        kind: Literal["X"] = "X"

    assert schema._convert(One.model_json_schema(), {}, "One")["properties"]["kind"]["enum"] == ["X"]


def test_committed_yaml_matches_the_models() -> None:
    assert generator.main(["--check"]) == 0


def test_drift_is_told_in_one_sentence_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pyproject.toml").touch()
    assert generator.main(["--root", str(tmp_path)]) == 0
    assert generator.main(["--root", str(tmp_path), "--check"]) == 0
    changed = tmp_path / "crds" / "hahosts.yaml"
    changed.write_text(changed.read_text().replace("minimum: 0", "minimum: 1", 1))
    capsys.readouterr()
    assert generator.main(["--root", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "crds/hahosts.yaml" in said[0]
    assert "make generate" in said[0]


def test_a_folder_that_is_no_checkout_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert generator.main(["--root", str(tmp_path)]) == 1
    assert str(tmp_path) in capsys.readouterr().err


def test_plain_and_chart_manifests_differ_in_the_keep_annotation_only() -> None:
    for model in schema.KINDS:
        plain = yaml.safe_load((ROOT / "crds" / f"{model.PLURAL}.yaml").read_text())
        text = (ROOT / generator.CHART / f"{model.PLURAL}.yaml").read_text()
        chart = yaml.safe_load("\n".join(line for line in text.splitlines() if not line.startswith("{{")))
        assert chart["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert chart == plain


def test_the_example_pool_survives_reading_and_writing() -> None:
    document = yaml.safe_load((ROOT / "examples" / "hapool.yaml").read_text())
    pool = HAPool.model_validate(document)
    again = HAPool.model_validate(pool.to_json())
    assert again == pool
    assert pool.spec.heartbeat.storage.device_path == document["spec"]["heartbeat"]["storage"]["devicePath"]
    assert pool.to_json()["spec"]["hostFailuresToTolerate"] == 1
