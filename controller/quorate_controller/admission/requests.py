"""From an AdmissionReview to what is being asked, by comparing the old and the new object. Pure; no plan and no cluster here.

KubeVirt's `start` and `stop` subresources never reach a webhook themselves: virt-api turns them into an update of
`spec.runStrategy` (or `spec.running`), or, for Manual and RerunOnFailure, into `status.stateChangeRequests`.
"""

import re
from dataclasses import dataclass

from quorate_controller.kube import Json
from quorate_controller.membership import PRIORITY_LABEL, PROTECTION_LABEL
from quorate_controller.memory import dig

OVERRIDE = "quorate.dev/allow-overcommit"
"""Annotation by which a person says that they know what they do; the refusals name it."""

_STARTING = frozenset({"Always", "RerunOnFailure", "Once", "WaitAsReceiver"})
_MACHINERY = frozenset({"system:kube-controller-manager", "system:kube-scheduler", "system:apiserver"})
_KUBEVIRT = re.compile(r"^system:serviceaccount:[^:]+:kubevirt-(controller|handler|operator)$")


class BadReview(Exception):
    """The body is no AdmissionReview; the message says what is missing."""


@dataclass(frozen=True)
class Request:
    """One admission request. `new` is None for a delete, `old` for a create."""

    uid: str
    resource: str
    subresource: str
    operation: str
    namespace: str
    name: str
    user: str
    groups: frozenset[str]
    dry_run: bool
    new: Json | None
    old: Json | None

    @property
    def key(self) -> str:
        """`namespace/name` of the object."""
        return f"{self.namespace}/{self.name}"

    @property
    def object(self) -> Json:
        """The object after the change, or as it was before a delete."""
        return self.new or self.old or {}

    @property
    def override(self) -> bool:
        """Whether the object carries the annotation that allows overcommit."""
        return dig(self.object, "metadata", "annotations").get(OVERRIDE) == "true"


@dataclass(frozen=True)
class StartVm:
    """A VM will run that did not, or will run anew."""

    vm: Json


@dataclass(frozen=True)
class EditVm:
    """A VM's template, instancetype or protection label changes; whether it grows is a matter of KubeVirt's formula."""

    vm: Json


@dataclass(frozen=True)
class StopVm:
    """A VM is stopped or deleted."""

    vm: Json
    deleted: bool


@dataclass(frozen=True)
class SetProtection:
    """A ProtectedVM is created or changed."""

    protected_vm: Json


@dataclass(frozen=True)
class EditPool:
    """An HAPool is created (`old` is None) or changed."""

    pool: Json
    old: Json | None


@dataclass(frozen=True)
class EditHost:
    """An HAHost is created (`old` is None) or changed."""

    host: Json
    old: Json | None


Ask = StartVm | EditVm | StopVm | SetProtection | EditPool | EditHost


def parse(review: Json) -> Request:
    """The request in a review. Raises `BadReview`."""
    request = review.get("request") if isinstance(review, dict) else None
    if not isinstance(request, dict) or not isinstance(request.get("uid"), str) or review.get("kind") != "AdmissionReview":
        raise BadReview("the body is no admission.k8s.io/v1 AdmissionReview with a request")
    new, old = request.get("object"), request.get("oldObject")
    user = dig(request, "userInfo")
    found = Request(
        uid=request["uid"],
        resource=str(dig(request, "resource").get("resource", "")),
        subresource=str(request.get("subResource") or ""),
        operation=str(request.get("operation") or ""),
        namespace=str(request.get("namespace") or ""),
        name=str(request.get("name") or dig(new, "metadata").get("name") or dig(new, "metadata").get("generateName") or ""),
        user=str(user.get("username") or ""),
        groups=frozenset(str(group) for group in user.get("groups") or ()),
        dry_run=bool(request.get("dryRun")),
        new=_named(new, request) if isinstance(new, dict) else None,
        old=_named(old, request) if isinstance(old, dict) else None,
    )
    if found.operation in {"CREATE", "UPDATE"} and found.new is None:
        raise BadReview(f"a {found.operation} without an object")
    return found


def _named(obj: Json, request: Json) -> Json:
    """The object with the namespace and, for a generated name, the prefix that stands in for the name until it has one."""
    metadata = dict(dig(obj, "metadata"))
    if request.get("namespace"):
        metadata.setdefault("namespace", request["namespace"])
    metadata.setdefault("name", request.get("name") or f"{metadata.get('generateName', '')}{request['uid']}")
    return {**obj, "metadata": metadata}


def from_machinery(request: Request, namespace: str) -> bool:
    """Whether a part of Kubernetes, KubeVirt or Quorate itself asks: the restart path, the garbage collector, a namespace's end.

    virt-api is not one of them: it carries people's `virtctl start` and `virtctl stop`.
    """
    return (
        request.user in _MACHINERY
        or request.user.startswith("system:node:")
        or _KUBEVIRT.match(request.user) is not None
        or not request.groups.isdisjoint({"system:serviceaccounts:kube-system", f"system:serviceaccounts:{namespace}"})
    )


def asks(request: Request) -> tuple[Ask, ...]:
    """What the request asks that Quorate has a say in; empty for everything else."""
    match request.resource, request.subresource:
        case "virtualmachines", "":
            return _vm_asks(request)
        case "virtualmachines", "status":
            return _state_change(request)
        case "protectedvms", "" if request.new is not None:
            return (SetProtection(request.new),)
        case "hapools", "" if request.new is not None:
            return (EditPool(request.new, request.old),)
        case "hahosts", "" if request.new is not None:
            return (EditHost(request.new, request.old),)
    return ()


def _vm_asks(request: Request) -> tuple[Ask, ...]:
    new, old = request.new, request.old
    if new is None:
        return (StopVm(request.object, deleted=True),)
    after, before = strategy(new), strategy(old) if old is not None else "Halted"
    found: list[Ask] = []
    if after in _STARTING and after != before:
        found.append(StartVm(new))
    elif after == "Halted" and before != "Halted":
        found.append(StopVm(new, deleted=False))
    if _edited(new, old):
        found.append(EditVm(new))
    return tuple(found)


def _edited(new: Json, old: Json | None) -> bool:
    labels = dig(new, "metadata", "labels")
    if old is None:
        return PROTECTION_LABEL in labels
    fields = ("template", "instancetype")
    return any(dig(new, "spec").get(f) != dig(old, "spec").get(f) for f in fields) or any(
        labels.get(label) != dig(old, "metadata", "labels").get(label) for label in (PROTECTION_LABEL, PRIORITY_LABEL)
    )


def _state_change(request: Request) -> tuple[Ask, ...]:
    """Requests that this update adds. A stop together with a start is a restart, or the start of a VM whose last run has ended."""
    had = _requests(request.old)
    actions = {r.get("action") for r in _requests(request.new) if r not in had}
    if "Start" in actions:
        return (StartVm(request.object),)
    return (StopVm(request.object, deleted=False),) if "Stop" in actions else ()


def _requests(vm: Json | None) -> list[Json]:
    return [r for r in dig(vm, "status").get("stateChangeRequests") or () if isinstance(r, dict)]


def strategy(vm: Json) -> str:
    """The run strategy, also where a VM still uses the deprecated `running`."""
    spec = dig(vm, "spec")
    return str(spec.get("runStrategy") or ("Always" if spec.get("running") else "Halted"))
