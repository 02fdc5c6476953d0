"""RBAC is exactly as wide as the code: whatever it reads or writes through its port to the API is granted."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from quorate_controller import kube, observe, triggers

from .rendering import only, rendered

SOURCES = Path(kube.__file__).parent
VERBS = {"list": "list", "get": "get", "create": "create", "replace": "update", "merge": "patch", "json_patch": "patch", "delete": "delete"}
STATUS_VERBS = {"replace_status": "update"}

Right = tuple[str, str, str]
"""API group, resource (with subresource), verb."""


def granted(name: str) -> set[Right]:
    manifests = rendered()
    rules = [rule for kind in ("ClusterRole", "Role") for rule in only(manifests, kind, name)["rules"]]
    return {(g, r, v) for rule in rules for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]}


def right(resource: kube.Resource, verb: str, subresource: str = "") -> Right:
    group = resource.api_version.rpartition("/")[0]
    return group, resource.plural + subresource, verb


def uses() -> Iterator[tuple[str, Right]]:
    """Calls such as `api.merge(kube.HAPOOLS, ..., status=True)` anywhere in the controller, with where they stand."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            first = node.args[0]
            name = first.attr if isinstance(first, ast.Attribute) else first.id if isinstance(first, ast.Name) else ""
            resource = getattr(kube, name, None)
            if not isinstance(resource, kube.Resource):
                continue
            where = f"{path.relative_to(SOURCES)}:{node.lineno}"
            status = any(k.arg == "status" and isinstance(k.value, ast.Constant) and k.value.value for k in node.keywords)
            method = node.func.attr
            if method in VERBS:
                yield where, right(resource, VERBS[method], "/status" if status else "")
            elif method in STATUS_VERBS:
                yield where, right(resource, STATUS_VERBS[method], "/status")
            elif method == "apply":
                yield where, right(resource, "patch", "/status" if status else "")
                if not status:
                    yield where, right(resource, "create")


def test_the_controller_may_do_everything_its_code_does() -> None:
    found = list(uses())
    assert found, "the scan finds no call at all: has the port changed its shape?"
    may = granted("quorate-controller")
    missing = sorted(
        {f"{where}: {verb} {group}/{resource}" for where, (group, resource, verb) in found if (group, resource, verb) not in may}
    )
    assert not missing


def test_the_controller_may_read_what_it_decides_from_and_watch_what_wakes_it() -> None:
    may = granted("quorate-controller")
    read = [*observe._REQUIRED.values(), *observe._KUBEVIRT.values(), *observe._OPTIONAL]
    assert {right(resource, "list") for resource in read} <= may
    assert {right(resource, verb) for resource in triggers.WATCHED for verb in ("list", "watch")} <= may


def test_the_controller_may_start_a_vm_that_kubevirt_does_not_restart_itself() -> None:
    parts = kube.start_path("ns", "vm").split("/")
    assert (parts[2], f"{parts[-3]}/{parts[-1]}", "update") in granted("quorate-controller")


@pytest.mark.parametrize("name", ["quorate-controller", "quorate-agent"])
def test_nobody_has_wildcards_or_all_secrets(name: str) -> None:
    for group, resource, verb in granted(name):
        assert "*" not in group + resource + verb
    manifests = rendered()
    for kind in ("ClusterRole", "Role"):
        for rule in only(manifests, kind, name)["rules"]:
            if "secrets" in rule["resources"]:
                assert rule["resourceNames"] == ["quorate-heartbeat"]


def test_the_agent_writes_nothing_but_a_status_of_hahosts() -> None:
    writes = {(resource, verb) for _, resource, verb in granted("quorate-agent") if verb not in {"get", "list", "watch"}}
    assert writes == {("hahosts/status", "patch")}


def test_the_agent_may_list_what_it_backs_up() -> None:
    kinds = ("hapools", "hahosts", "protectedvms")
    assert {("quorate.dev", kind, "list") for kind in kinds} <= granted("quorate-agent")


def test_the_controller_edits_no_virtual_machine() -> None:
    writes = {
        resource
        for group, resource, verb in granted("quorate-controller")
        if group == "kubevirt.io" and verb not in {"get", "list", "watch"}
    }
    assert not writes


def test_roles_of_people_are_aggregated() -> None:
    manifests = rendered()
    labels: dict[str, Any] = only(manifests, "ClusterRole", "quorate-view")["metadata"]["labels"]
    assert labels["rbac.authorization.k8s.io/aggregate-to-view"] == "true"
    edit = only(manifests, "ClusterRole", "quorate-edit")
    assert [rule["resources"] for rule in edit["rules"]] == [["protectedvms"]]
