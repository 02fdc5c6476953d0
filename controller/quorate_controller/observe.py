"""What the cluster says: every object that decisions are made from, read fresh or parsed from a dump.

A dump of `kubectl get nodes,pods,vms,vmis,pvc,pv,hapools,hahosts,protectedvms -A -o yaml` gives the same `Observed` as a
live read. Nothing is interpreted here; that is translate.py.
"""

import asyncio
import json
import operator
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from quorate_controller import kube
from quorate_controller.kube import Json, Kube, Resource


class BadInput(Exception):
    """Something a person gave that cannot be used; names the object, the field and what is wrong with it."""

    def __init__(self, object: str, field: str, message: str) -> None:
        super().__init__(f"{object}: {field}: {message}" if field else f"{object}: {message}")
        self.object = object
        self.field = field
        self.message = message


@dataclass(frozen=True)
class Observed:
    """The objects of a cluster at one time, as JSON. `remarks` says in words what could not be read."""

    nodes: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    vms: tuple[Json, ...] = ()
    vmis: tuple[Json, ...] = ()
    pvcs: tuple[Json, ...] = ()
    pvs: tuple[Json, ...] = ()
    hapools: tuple[Json, ...] = ()
    hahosts: tuple[Json, ...] = ()
    protectedvms: tuple[Json, ...] = ()
    failovers: tuple[Json, ...] = ()
    kubevirts: tuple[Json, ...] = ()
    instancetypes: tuple[Json, ...] = ()
    remarks: tuple[str, ...] = ()


INSTANCETYPES = Resource("instancetype.kubevirt.io/v1beta1", "virtualmachineinstancetypes", "VirtualMachineInstancetype")
CLUSTER_INSTANCETYPES = Resource(
    "instancetype.kubevirt.io/v1beta1", "virtualmachineclusterinstancetypes", "VirtualMachineClusterInstancetype", namespaced=False
)

_REQUIRED: dict[str, Resource] = {
    "nodes": kube.NODES,
    "pods": kube.PODS,
    "pvcs": kube.PVCS,
    "pvs": kube.PVS,
    "hapools": kube.HAPOOLS,
    "hahosts": kube.HAHOSTS,
    "protectedvms": kube.PROTECTEDVMS,
    "failovers": kube.FAILOVERS,
}
_KUBEVIRT: dict[str, Resource] = {"vms": kube.VMS, "vmis": kube.VMIS, "kubevirts": kube.KUBEVIRTS}
_OPTIONAL: tuple[Resource, ...] = (INSTANCETYPES, CLUSTER_INSTANCETYPES)

_FIELD_OF_KIND = {r.kind: name for name, r in {**_REQUIRED, **_KUBEVIRT}.items()} | {r.kind: "instancetypes" for r in _OPTIONAL}


def kinds() -> dict[Resource, str]:
    """Every kind that is read, with its field of `Observed`."""
    return {r: name for name, r in {**_REQUIRED, **_KUBEVIRT}.items()} | dict.fromkeys(_OPTIONAL, "instancetypes")


def needed(r: Resource) -> bool:
    """Whether nothing can be decided without that kind."""
    return r in _REQUIRED.values()


async def observe(api: Kube) -> Observed:
    """Read everything, fresh. Raises `kube.KubeError` when a kind cannot be read; a cluster without KubeVirt has a remark instead."""
    names = list(_REQUIRED)
    kubevirt_names = list(_KUBEVIRT)
    required, kubevirt, optional = await asyncio.gather(
        asyncio.gather(*(api.list(_REQUIRED[name]) for name in names)),
        asyncio.gather(*(_list_if_served(api, _KUBEVIRT[name]) for name in kubevirt_names)),
        asyncio.gather(*(_list_if_allowed(api, r) for r in _OPTIONAL)),
    )
    found: dict[str, Sequence[Json]] = dict(zip(names, required, strict=True))
    found |= {name: objects or () for name, objects in zip(kubevirt_names, kubevirt, strict=True)}
    found["instancetypes"] = [o for objects in optional for o in objects or ()]
    absent = [_KUBEVIRT[name].kind for name, objects in zip(kubevirt_names, kubevirt, strict=True) if objects is None]
    remarks = [f"the API server serves no {', '.join(absent)}: is KubeVirt installed?"] if absent else []
    return _observed(found, remarks)


def unchanged(before: Observed, now: Observed) -> Observed:
    """The same as `now`; an object that `before` has too, by uid and resource version, is the very object of `before`.

    So what was worked out from it can be taken again, see memo.py.
    """

    def same(old: tuple[Json, ...], new: tuple[Json, ...]) -> tuple[Json, ...]:
        known = {_version(obj): obj for obj in old}
        found = tuple(known.get(_version(obj), obj) for obj in new)
        return old if len(old) == len(found) and all(map(operator.is_, old, found)) else found

    found: dict[str, Any] = {name: same(getattr(before, name), getattr(now, name)) for name in {*kinds().values()}}
    return replace(now, **found)


def _version(obj: Json) -> tuple[object, ...]:
    metadata = obj["metadata"]
    version = metadata.get("resourceVersion")
    return (metadata.get("namespace"), metadata["name"], metadata.get("uid"), version) if version else (id(obj),)


async def _list_if_served(api: Kube, r: Resource) -> list[Json] | None:
    try:
        return await api.list(r)
    except kube.Missing:
        return None


async def _list_if_allowed(api: Kube, r: Resource) -> list[Json] | None:
    """Instance types refine what is known of stopped VMs; a reader without that right does without, and each such VM has a remark."""
    try:
        return await _list_if_served(api, r)
    except kube.Refused:
        return None


def parse_dump(texts: Iterable[tuple[str, str]] | Iterable[str]) -> Observed:
    """Objects from files of YAML or JSON: single objects, lists as kubectl writes them, several documents per file.

    `texts` are file contents, or pairs (name, content) so that messages can name the file. The same object given twice counts
    once: the later file wins. Raises `BadInput` naming file and line where a file cannot be parsed, was cut, or holds something else.
    """
    found: dict[str, dict[tuple[str, str], Json]] = {}
    ignored: set[str] = set()
    for number, text in enumerate(texts, start=1):
        source, content = text if isinstance(text, tuple) else (f"input {number}", text)
        for document, line in _documents(source, content):
            for item in _items(source, line, document):
                kind = item.get("kind")
                if kind not in _FIELD_OF_KIND:
                    ignored.add(str(kind))
                    continue
                metadata = item["metadata"]
                found.setdefault(_FIELD_OF_KIND[kind], {})[(metadata.get("namespace") or "", metadata["name"])] = item
    if not found:
        what = f"only {', '.join(sorted(ignored))}" if ignored else "no Kubernetes object"
        raise BadInput("input", "", f"holds {what}; expected the output of kubectl get nodes,pods,vms,... -A -o yaml")
    return _observed({name: list(objects.values()) for name, objects in found.items()}, [])


def _documents(source: str, content: str) -> Iterator[tuple[Any, int]]:
    """Parsed documents with the line each starts at."""
    if content.lstrip().startswith("{"):
        try:
            yield json.loads(content), 1
            return
        except json.JSONDecodeError as error:
            raise BadInput(source, f"line {error.lineno}", f"not complete JSON ({error.msg}); was it cut?") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(content)
    try:
        while loader.check_data():
            yield loader.get_data(), loader.line + 1 if hasattr(loader, "line") else 0
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else len(content.splitlines())
        raise BadInput(source, f"line {line}", f"not complete YAML ({error.problem or error.context}); was it cut?") from error
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(source, "", f"not YAML: {' '.join(str(error).split())}") from error
    finally:
        loader.dispose()


def _items(source: str, line: int, document: Any) -> Iterator[Json]:
    if document is None:
        return
    where = f"document ending at line {line}" if line else "document"
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise BadInput(source, where, "not a Kubernetes object (no kind); was it cut?")
    if not document["kind"].endswith("List") or "items" not in document:
        yield _named(source, where, document)
        return
    # NB: kubectl writes apiVersion, items, kind, metadata in this order: a list without its last keys was cut even though it parses.
    if "metadata" not in document:
        raise BadInput(source, where, "the list ends before its metadata; was it cut?")
    items = document["items"]
    if not isinstance(items, list):
        raise BadInput(source, where, "items is not a list")
    for item in items:
        if isinstance(item, dict) and not item.get("kind"):
            item = {**item, "kind": document["kind"].removesuffix("List"), "apiVersion": document.get("apiVersion")}
        yield _named(source, where, item)


def _named(source: str, where: str, item: Any) -> Json:
    if not isinstance(item, dict):
        raise BadInput(source, where, "an item is not an object")
    metadata = item.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise BadInput(source, where, f"a {item.get('kind', 'thing')} has no metadata.name; was the file cut?")
    return item


def _observed(found: dict[str, Any], remarks: Sequence[str]) -> Observed:
    def by_name(item: Json) -> tuple[str, str, str]:
        metadata = item["metadata"]
        return metadata.get("namespace") or "", metadata["name"], item.get("kind") or ""

    return Observed(**{name: tuple(sorted(objects, key=by_name)) for name, objects in found.items()}, remarks=tuple(remarks))
