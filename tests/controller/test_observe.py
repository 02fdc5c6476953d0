"""Reading dumps: what kubectl writes, several files, and files that were cut, each refused in one sentence."""

import json

import pytest
import yaml

from quorate_controller.observe import BadInput, Observed, parse_dump, unchanged

from .objects import node, pool, vm

LIST = {"apiVersion": "v1", "items": [node("n1"), vm("a"), pool()], "kind": "List", "metadata": {"resourceVersion": ""}}


def test_lists_single_objects_and_several_documents_are_read_in_yaml_and_json() -> None:
    documents = yaml.safe_dump_all([LIST, node("n2")])
    found = parse_dump([("a.yaml", documents), ("b.json", json.dumps(node("n3")))])
    assert [item["metadata"]["name"] for item in found.nodes] == ["n1", "n2", "n3"]
    assert [item["metadata"]["name"] for item in found.vms] == ["a"]


def test_a_typed_list_gives_its_items_their_kind() -> None:
    items = {"apiVersion": "v1", "kind": "NodeList", "items": [{"metadata": {"name": "n1"}}], "metadata": {}}
    assert parse_dump([json.dumps(items)]).nodes[0]["kind"] == "Node"


def test_an_object_given_twice_counts_once_and_the_later_file_wins() -> None:
    found = parse_dump([("a", yaml.safe_dump(node("n1", "1Gi"))), ("b", yaml.safe_dump(node("n1", "2Gi")))])
    assert [item["status"]["allocatable"]["memory"] for item in found.nodes] == ["2Gi"]


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_json_that_was_cut_is_refused_with_its_line(fraction: float) -> None:
    text = json.dumps(LIST, indent=1)
    with pytest.raises(BadInput, match=r"^dump: line \d+: not complete JSON"):
        parse_dump([("dump", text[: int(len(text) * fraction)])])


def test_yaml_that_was_cut_anywhere_is_refused() -> None:
    text = yaml.safe_dump(LIST)
    lines = text.splitlines(keepends=True)
    for end in range(1, len(lines) - 2):  # the last two lines are the list's own metadata: nothing is lost with them
        with pytest.raises(BadInput, match=r"^dump: "):
            parse_dump([("dump", "".join(lines[:end]))])
    parse_dump([("dump", text)])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "input: holds no Kubernetes object"),
        ("just words", "not a Kubernetes object"),
        ("a: [1", "not complete YAML"),
        ("kind: Node\nmetadata: {}", "has no metadata.name"),
        ("kind: Secret\nmetadata: {name: s}", "holds only Secret"),
        ("kind: List\nitems: 7\nmetadata: {}", "items is not a list"),
        ("kind: List\nitems: [7]\nmetadata: {}", "an item is not an object"),
        ("a: \x00", "not YAML"),
    ],
)
def test_what_is_no_dump_is_refused_in_one_sentence(text: str, message: str) -> None:
    with pytest.raises(BadInput) as error:
        parse_dump([("dump", text)])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_an_object_that_has_not_changed_is_the_very_object_of_the_read_before() -> None:
    def read(version: str, other: str = "1") -> Observed:
        old = {"metadata": {"name": "n", "uid": "u1", "resourceVersion": version}}
        twin = {"metadata": {"name": "n", "namespace": "other", "uid": "u2", "resourceVersion": other}}
        unversioned = {"metadata": {"name": "dump"}}
        return Observed(nodes=(old, twin, unversioned), pods=(twin,))

    before, same, later = read("1"), unchanged(read("1"), read("1")), read("2")
    after = unchanged(before, later)
    assert [a is b for a, b in zip(after.nodes, before.nodes, strict=True)] == [False, True, False]
    assert after == later
    assert after.pods is before.pods
    assert same == before
