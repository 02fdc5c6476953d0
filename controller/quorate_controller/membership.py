"""Which Nodes belong to which pool, and how far Quorate goes for which VM: Quorate's own objects, read from JSON.

Every decision about membership and protection that needs no memory figures is taken here, so that the command line, the
webhook and the controller cannot disagree. Pure.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pydantic import ValidationError

from quorate_api.base import ApiModel
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_api.protectedvm import ProtectedVM, ProtectedVMSpec, VmReference
from quorate_controller.kube import Json
from quorate_controller.memo import Memo
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput, Observed
from quorate_core.facts import Protection

PROTECTION_LABEL = "quorate.dev/protection"
PRIORITY_LABEL = "quorate.dev/priority"

Model = TypeVar("Model", bound=ApiModel)


def parse(model: type[Model], obj: Json) -> Model:
    """The object as a model. Raises `BadInput` naming the object and its first wrong field."""
    try:
        return model.model_validate(obj)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BadInput(described(obj), field, f"{first['msg']}, got {first['input']!r}"[:300]) from None


def parsed(model: type[Model], obj: Json, memo: Memo | None) -> Model:
    """The same, taken from the memo if the very same object was parsed before."""
    return parse(model, obj) if memo is None else memo.of(model.__name__, (obj,), lambda: parse(model, obj))


def described(obj: Json) -> str:
    """Kind and name of an object, for messages."""
    metadata = obj.get("metadata") or {}
    namespace = metadata.get("namespace")
    return f"{obj.get('kind', 'object')} {namespace + '/' if namespace else ''}{metadata.get('name', '(no name)')}"


def key_of(obj: Json) -> str:
    """`namespace/name` of a namespaced object."""
    return f"{obj['metadata'].get('namespace') or 'default'}/{obj['metadata']['name']}"


def named_vm(protected: Json) -> str:
    """`namespace/name` of the VM that a ProtectedVM names."""
    return f"{protected['metadata'].get('namespace') or 'default'}/{dig(protected, 'spec', 'vmRef').get('name')}"


def parse_pool(obj: Json) -> HAPool:
    """The pool as a model. Raises `BadInput`, also for what only CEL checks: exactly one storage source, profile or timing."""
    pool = parse(HAPool, obj)
    storage = pool.spec.heartbeat.storage
    sources = {
        "storageClassName": storage.storage_class_name,
        "claimName": storage.claim_name,
        "devicePath": storage.device_path,
    }
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        said = " and ".join(given) if given else "none"
        raise BadInput(described(obj), "spec.heartbeat.storage", f"exactly one of {', '.join(sources)} is needed; {said} given")
    if pool.spec.heartbeat.profile is not None and pool.spec.heartbeat.timing is not None:
        raise BadInput(described(obj), "spec.heartbeat", "profile and timing exclude each other; both given")
    return pool


@dataclass(frozen=True, slots=True)
class Membership:
    """Nodes by pool, HAHosts by name, and for each pool the Nodes that another pool claims too, in words."""

    nodes: Mapping[str, tuple[Json, ...]]
    hahosts: Mapping[str, HAHost]
    contested: Mapping[str, tuple[str, ...]]
    problems: tuple[str, ...] = ()


def memberships(observed: Observed, memo: Memo | None = None) -> Membership:
    """Who belongs where. A Node that two pools select stays with the pool of its HAHost, and belongs to neither if it has none.

    A pool that cannot be read selects no Node here; `parse_pool` says why.
    """
    problems: list[str] = []
    pools: dict[str, HAPool] = {}
    for obj in observed.hapools:
        try:
            pools[obj["metadata"]["name"]] = parse_pool(obj)
        except BadInput as error:
            problems.append(str(error))
    hahosts: dict[str, HAHost] = {}
    for obj in observed.hahosts:
        try:
            hahosts[obj["metadata"]["name"]] = parsed(HAHost, obj, memo)
        except BadInput as error:
            problems.append(str(error))
    nodes: dict[str, list[Json]] = {name: [] for name in pools}
    contested: dict[str, list[str]] = {name: [] for name in pools}
    for node in observed.nodes:
        name = node["metadata"]["name"]
        claims = [pool for pool, model in pools.items() if model.spec.host_selector.matches(dig(node, "metadata", "labels"))]
        hahost = hahosts.get(name)
        owner = hahost.spec.pool if hahost is not None and hahost.spec.pool in claims else None
        if len(claims) > 1:
            keeps = f"; it stays with {owner}, which has its HAHost" if owner else ""
            for pool in claims:
                contested[pool].append(f"Node {name} is selected by pools {' and '.join(sorted(claims))}{keeps}")
        elif claims:
            owner = claims[0]
        if owner is not None:
            nodes[owner].append(node)
    return Membership(
        nodes={name: tuple(found) for name, found in nodes.items()},
        hahosts=hahosts,
        contested={name: tuple(found) for name, found in contested.items() if found},
        problems=tuple(problems),
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """What is wished for one VM. `source` is the object that says so; `problem` says what is wrong with it."""

    vm: str
    spec: ProtectedVMSpec
    source: str
    problem: str = ""


def label_wish(vm: Json) -> ProtectedVMSpec | None:
    """What the VM's own label wishes, or None without the label. Raises `BadInput` for a value that is none."""
    labels = dig(vm, "metadata", "labels")
    value = labels.get(PROTECTION_LABEL)
    if value is None:
        return None
    try:
        protection = Protection(value)
    except ValueError:
        known = ", ".join(Protection)
        raise BadInput(described(vm), f"metadata.labels[{PROTECTION_LABEL}]", f"{value!r} is not one of {known}") from None
    text = labels.get(PRIORITY_LABEL, "0")
    if not text.isascii() or not text.isdigit() or int(text) > 1_000_000:
        raise BadInput(described(vm), f"metadata.labels[{PRIORITY_LABEL}]", f"{text!r} is not a whole number from 0 to 1000000")
    return ProtectedVMSpec(vm_ref=VmReference(name=vm["metadata"]["name"]), protection=protection, priority=int(text))


def wishes(observed: Observed, *, strict: bool, memo: Memo | None = None) -> tuple[dict[str, Wish], list[str]]:
    """What is wished for each VM (by `namespace/name`), and remarks. With `strict`, what cannot be read raises `BadInput`.

    A ProtectedVM counts before the label. Where two name the same VM the stronger wish counts, so that no protection is lost.
    """
    remarks: list[str] = []
    existing = {key_of(vm) for vm in observed.vms}
    found: dict[str, Wish] = {}
    for obj in observed.protectedvms:
        source = described(obj)
        try:
            model = parsed(ProtectedVM, obj, memo)
        except BadInput as error:
            if strict:
                raise
            remarks.append(str(error))
            continue
        vm = f"{obj['metadata'].get('namespace') or 'default'}/{model.spec.vm_ref.name}"
        if vm not in existing:
            remarks.append(f"{source}: spec.vmRef.name: there is no VirtualMachine {vm}")
            continue
        wish = _wish(vm, model.spec, source, obj, memo)
        other = found.get(vm)
        if other is not None:
            wish, lesser = sorted((wish, other), key=_strength)
            remarks.append(f"{lesser.source}: spec.vmRef.name: {vm} is named by {wish.source} too, which counts")
        found[vm] = wish
    for vm_obj in observed.vms:
        vm = key_of(vm_obj)
        if vm in found:
            continue
        try:
            spec = label_wish(vm_obj)
        except BadInput as error:
            if strict:
                raise
            remarks.append(str(error))
            continue
        if spec is not None:
            found[vm] = _wish(vm, spec, described(vm_obj), vm_obj, memo)
    return found, remarks


def _wish(vm: str, spec: ProtectedVMSpec, source: str, obj: Json, memo: Memo | None) -> Wish:
    return Wish(vm, spec, source) if memo is None else memo.of("wish", (obj,), lambda: Wish(vm, spec, source))


def _strength(wish: Wish) -> tuple[int, int, str]:
    order = (Protection.PROTECTED, Protection.BEST_EFFORT, Protection.UNPROTECTED)
    return order.index(wish.spec.protection), wish.spec.priority, wish.source


def pool_of(wish: Wish | None, host_pool: str | None, pools: Iterable[str]) -> tuple[str | None, str]:
    """The pool a VM belongs to and, if it has none, why: what its wish says, else the only pool, else the pool of its host."""
    names = sorted(pools)
    wished = wish.spec.pool if wish is not None else None
    if wished is not None:
        return (wished, "") if wished in names else (None, f"there is no HAPool {wished}")
    if len(names) == 1:
        return names[0], ""
    if host_pool is not None:
        return host_pool, ""
    return None, f"spec.pool must name one of the pools {', '.join(names)}" if names else "there is no HAPool"
