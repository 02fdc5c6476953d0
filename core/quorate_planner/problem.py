"""The bare planning problem: hosts with free memory, protected VMs, and nothing of Kubernetes.

Every bound and every proof of this package reads this form. A snapshot is turned into it by `facts`; `load` reads it from JSON,
the door for benchmarks and property tests. Bad input becomes a `ProblemError` that names the field; never a traceback.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

MEMORY_LIMIT_BYTES = 1 << 62
"""No host is this large; the limit keeps every sum in a readable range."""


class ProblemError(ValueError):
    """The problem is not well formed; the message names the field and says what is wrong with it."""


class ProblemHost(NamedTuple):
    """A host that may fail. `free` is what launcher pods may still request on it, in bytes; 0 if it takes none.

    `hugepages` is the same for hugepages, of the one page size that the pool's VMs use; they are not part of `free`.
    """

    name: str
    free: int
    domain: str | None = None
    hugepages: int = 0


class ProblemVm(NamedTuple):
    """A protected VM that should run. `host` None: it is off and must be placed first. `allowed` None: every host.

    `hugepages` are bytes of hugepages that it needs besides `size`. VMs that share a label of `apart` never share a host.
    """

    name: str
    size: int
    host: str | None = None
    allowed: frozenset[str] | None = None
    priority: int = 0
    hugepages: int = 0
    apart: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Problem:
    """Hosts and protected VMs, each in the order of their names, so that the input order changes nothing."""

    hosts: tuple[ProblemHost, ...]
    vms: tuple[ProblemVm, ...]
    wish: int = 1
    pool: str = "problem"

    def __post_init__(self) -> None:
        if self.wish < 0:
            raise ProblemError(f"hostFailuresToTolerate: must not be negative, is {self.wish}")
        object.__setattr__(self, "hosts", tuple(sorted(self.hosts)))
        object.__setattr__(self, "vms", tuple(sorted(self.vms, key=lambda vm: vm.name)))
        known = {host.name for host in self.hosts}
        _no_twins("hosts", [host.name for host in self.hosts], known)
        _no_twins("vms", [vm.name for vm in self.vms], {vm.name for vm in self.vms})
        for host in self.hosts:
            if not 0 <= host.free < MEMORY_LIMIT_BYTES:
                raise ProblemError(f"host {host.name}: free: must be from 0 to 2^62 bytes, is {host.free}")
            if not 0 <= host.hugepages < MEMORY_LIMIT_BYTES:
                raise ProblemError(f"host {host.name}: hugepages: must be from 0 to 2^62 bytes, is {host.hugepages}")
        for vm in self.vms:
            if not 0 < vm.size < MEMORY_LIMIT_BYTES:
                raise ProblemError(f"VM {vm.name}: size: must be from 1 to 2^62 bytes, is {vm.size}")
            if not 0 <= vm.hugepages < MEMORY_LIMIT_BYTES:
                raise ProblemError(f"VM {vm.name}: hugepages: must be from 0 to 2^62 bytes, is {vm.hugepages}")
            if vm.host is not None and vm.host not in known:
                raise ProblemError(f"VM {vm.name}: host: there is no host {vm.host!r}")
            if vm.allowed is not None and not vm.allowed <= known:
                raise ProblemError(f"VM {vm.name}: allowed: there is no host {min(vm.allowed - known)!r}")


def _no_twins(field: str, names: list[str], distinct: set[str]) -> None:
    if len(distinct) != len(names):
        twice = next(a for a, b in pairwise(names) if a == b)
        raise ProblemError(f"{field}: the name {twice!r} is used twice")


def load(text: bytes | str) -> Problem:
    """The problem in a JSON file.

    `{"hosts": [{"name", "free", "domain"?, "hugepages"?}], "vms": [{"name", "size", "host", "allowed"?, "hugepages"?, "apart"?}],
    "hostFailuresToTolerate": k}`. Memory is in bytes; `"host": null` is a VM that is off. Raises `ProblemError`.
    """
    try:
        document = json.loads(text, object_pairs_hook=_object)
    except ProblemError:
        raise
    except (ValueError, RecursionError) as error:
        raise ProblemError(f"not JSON: {error}") from None
    fields = _fields(document, "problem", required=("hosts", "vms"), optional=("hostFailuresToTolerate",))
    hosts = [_host(item, f"hosts[{at}]") for at, item in enumerate(_list(fields["hosts"], "hosts"))]
    vms = [_vm(item, f"vms[{at}]") for at, item in enumerate(_list(fields["vms"], "vms"))]
    return Problem(tuple(hosts), tuple(vms), wish=_integer(fields.get("hostFailuresToTolerate", 1), "hostFailuresToTolerate"))


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        raise ProblemError(f"the field {next(n for n in names if names.count(n) > 1)!r} is given twice in one object")
    return fields


def _host(item: Any, where: str) -> ProblemHost:
    fields = _fields(item, where, required=("name", "free"), optional=("domain", "hugepages"))
    domain = fields.get("domain")
    return ProblemHost(
        _name(fields["name"], f"{where}.name"),
        _integer(fields["free"], f"{where}.free"),
        None if domain is None else _name(domain, f"{where}.domain"),
        _integer(fields.get("hugepages", 0), f"{where}.hugepages"),
    )


def _vm(item: Any, where: str) -> ProblemVm:
    fields = _fields(item, where, required=("name", "size"), optional=("host", "allowed", "hugepages", "apart"))
    host, allowed = fields.get("host"), fields.get("allowed")
    return ProblemVm(
        _name(fields["name"], f"{where}.name"),
        _integer(fields["size"], f"{where}.size"),
        None if host is None else _name(host, f"{where}.host"),
        None if allowed is None else _names(allowed, f"{where}.allowed"),
        hugepages=_integer(fields.get("hugepages", 0), f"{where}.hugepages"),
        apart=_names(fields.get("apart", []), f"{where}.apart"),
    )


def _names(item: Any, where: str) -> frozenset[str]:
    return frozenset(_name(name, f"{where}[{i}]") for i, name in enumerate(_list(item, where)))


def _fields(item: Any, where: str, *, required: tuple[str, ...], optional: tuple[str, ...]) -> Mapping[str, Any]:
    if not isinstance(item, dict):
        raise ProblemError(f"{where}: must be an object, is {_kind(item)}")
    for name in required:
        if name not in item:
            raise ProblemError(f"{where}: the field {name!r} is missing")
    for name in item:
        if name not in required and name not in optional:
            raise ProblemError(f"{where}: there is no field {name!r}; known are {', '.join(required + optional)}")
    return item


def _list(item: Any, where: str) -> list[Any]:
    if not isinstance(item, list):
        raise ProblemError(f"{where}: must be a list, is {_kind(item)}")
    return item


def _name(item: Any, where: str) -> str:
    if not isinstance(item, str) or not item:
        raise ProblemError(f"{where}: must be a name, is {_kind(item)}")
    return item


def _integer(item: Any, where: str) -> int:
    if not isinstance(item, int) or isinstance(item, bool):
        raise ProblemError(f"{where}: must be a whole number, is {_kind(item)}")
    if item < 0:
        raise ProblemError(f"{where}: must not be negative, is {item}")
    return item


def _kind(item: Any) -> str:
    if item is None:
        return "null"
    return {dict: "an object", list: "a list", str: f"the text {item!r}"[:60], bool: "true or false"}.get(type(item), f"{item!r}"[:60])
