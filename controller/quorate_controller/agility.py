"""Where a VM may be started, and why not elsewhere: XenServer's "agile", as a set of hosts with reasons.

Only what binds a VM for good is judged here (disks, devices, labels, taints); whether a host accepts VMs at this moment is
translate.py's business, which VMs keep each other away apart.py's, and hugepages pages.py's. What the planner cannot count (devices,
dedicated CPUs) makes a VM not agile rather than optimistically planned. Networks that only some hosts have are seen through node selectors
only.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from quorate_controller.kube import Json
from quorate_controller.memory import dig

_CPU_MODEL = "cpu-model.node.kubevirt.io/"
_MACHINE = "machine-type.node.kubevirt.io/"
_RESOLVED_AT_START = ("cpu-model-migration.node.kubevirt.io/", "host-model-required-features.node.kubevirt.io/")
"""Labels that a migration adds for the CPU the guest started on; a cold start on another host does not need them."""

HARD = ("NoSchedule", "NoExecute")


@dataclass(frozen=True, slots=True)
class Disks:
    """Claims by (namespace, name) and volumes by name."""

    claims: Mapping[tuple[str, str], Json]
    volumes: Mapping[str, Json]

    @classmethod
    def of(cls, pvcs: Iterable[Json], pvs: Iterable[Json]) -> "Disks":
        """Index claims and volumes."""
        claims = {(pvc["metadata"].get("namespace", "default"), pvc["metadata"]["name"]): pvc for pvc in pvcs}
        return cls(claims, {pv["metadata"]["name"]: pv for pv in pvs})


class Hosts:
    """The hosts of a pool, with what thousands of VMs ask of them worked out once."""

    def __init__(self, nodes: Sequence[Json]) -> None:
        self.nodes = tuple(nodes)
        self.names = frozenset(node["metadata"]["name"] for node in nodes)
        self.tainted = any(permanent_taints(node) for node in nodes)
        self.label_keys = frozenset(key for node in nodes for key in _labels(node))
        self._labelled: dict[tuple[str, str], frozenset[str]] = {}

    def which(self, suits: Callable[[Json], bool]) -> frozenset[str]:
        """Names of the hosts that suit."""
        return frozenset(node["metadata"]["name"] for node in self.nodes if suits(node))

    def labelled(self, key: str, value: str) -> frozenset[str]:
        """Names of the hosts with that label."""
        found = self._labelled.get((key, value))
        if found is None:
            found = self._labelled[(key, value)] = self.which(lambda node: _labels(node).get(key) == value)
        return found


@dataclass(frozen=True, slots=True)
class Places:
    """The hosts a VM may be started on; `reasons` says why it is not agile and is empty when at least one other host remains."""

    allowed: frozenset[str]
    reasons: tuple[str, ...]


def places(vm: Json, pod: Json | None, hosts: Hosts, disks: Disks, own: str | None) -> Places:
    """Where this VirtualMachine may be started among `hosts`; `own` is the host it runs on, which always stays allowed."""
    spec = dig(vm, "spec", "template", "spec")
    bound = [*_bound_to_its_host(vm, spec)]
    left = hosts.names
    narrowed: list[str] = []

    def keep(why: str, suitable: frozenset[str]) -> None:
        nonlocal left
        if not hosts.names <= suitable:
            narrowed.append(f"{why} allows only {_names(suitable)}")
        left &= suitable

    for key, value in _selectors(spec, pod, hosts).items():
        keep(f"node label {key}={value}", hosts.labelled(key, value))
    required = dig(spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution")
    if required:
        keep("required node affinity", hosts.which(lambda node: matches_terms(required, node)))
    if hosts.tainted:
        tolerations = [t for t in spec.get("tolerations") or () if isinstance(t, dict)]
        untainted = hosts.which(lambda node: all(tolerates(tolerations, taint) for taint in permanent_taints(node)))
        keep("a taint that the VM does not tolerate", untainted)
    namespace = vm["metadata"].get("namespace", "default")
    for claim in _claims(vm, spec, pod, disks):
        problem, term = _claim_places(namespace, claim, disks)
        if problem:
            bound.append(problem)
        elif term:
            keep(f"the volume of claim {claim}", hosts.which(functools.partial(matches_terms, term)))
    if own is not None:
        if bound:
            return Places(frozenset({own}), tuple(bound))
        left |= {own}
    if left - {own}:
        return Places(left, tuple(bound))
    return Places(left, tuple(bound) or tuple(narrowed) or ("the pool has no other host",))


def matches_terms(selector: Json, node: Json) -> bool:
    """Whether a node satisfies a NodeSelector: any of its terms, all requirements of that term."""
    return any(_matches_term(term, node) for term in selector.get("nodeSelectorTerms") or () if isinstance(term, dict))


def permanent_taints(node: Json) -> list[Json]:
    """Hard taints that an administrator set; those that mirror the node's present state are not among them."""
    passing = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/")
    taints = (taint for taint in dig(node, "spec").get("taints") or () if taint.get("effect") in HARD)
    return [taint for taint in taints if not str(taint.get("key", "")).startswith(passing)]


def tolerates(tolerations: Iterable[Json], taint: Json) -> bool:
    """Whether any toleration covers the taint."""
    for toleration in tolerations:
        key, operator = toleration.get("key"), toleration.get("operator") or "Equal"
        if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
            continue
        if not key:
            if operator == "Exists":
                return True
        elif key == taint.get("key") and (operator == "Exists" or (toleration.get("value") or "") == (taint.get("value") or "")):
            return True
    return False


def _labels(node: Json) -> Json:
    return dig(node, "metadata", "labels")


def _names(hosts: frozenset[str]) -> str:
    shown = sorted(hosts)
    return ", ".join(shown[:4]) + (f" and {len(shown) - 4} more" if len(shown) > 4 else "") if shown else "no host"


def _bound_to_its_host(vm: Json, spec: Json) -> Iterator[str]:
    """Reasons that tie a VM to the host it runs on, or that the planner cannot count."""
    domain, devices = dig(spec, "domain"), dig(spec, "domain", "devices")
    strategy = dig(vm, "spec").get("runStrategy")
    if strategy in {"Once", "WaitAsReceiver"}:
        yield f"runStrategy {strategy}: KubeVirt starts it once only"
    for volume in spec.get("volumes") or ():
        if "hostDisk" in volume and not dig(volume, "hostDisk").get("shared"):
            yield f"volume {volume.get('name')} is a disk on the host's own file system (hostDisk)"
    for field, what in (("hostDevices", "host device"), ("gpus", "GPU")):
        for device in devices.get(field) or ():
            yield f"{what} {device.get('deviceName') or device.get('name')} of its host; devices are not counted"
    for interface in devices.get("interfaces") or ():
        if "sriov" in interface:
            yield f"interface {interface.get('name')} is an SR-IOV function of its host; devices are not counted"
    if dig(domain, "cpu").get("dedicatedCpuPlacement"):
        yield "dedicated CPUs, which are not counted"
    if dig(spec, "affinity", "podAffinity").get("requiredDuringSchedulingIgnoredDuringExecution"):
        yield "required podAffinity: that VMs run beside each other is not planned for"
    if any(rule.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule" for rule in spec.get("topologySpreadConstraints") or ()):
        yield "required topologySpreadConstraints: rules between VMs are not planned for"


def _selectors(spec: Json, pod: Json | None, hosts: Hosts) -> dict[str, str]:
    """Node labels the VM needs: its own selector, what KubeVirt added to its running pod, and its named CPU model."""
    needed = dict(dig(spec, "nodeSelector"))
    model = dig(spec, "domain", "cpu").get("model")
    host_model = model in {None, "", "host-model"}
    for key, value in dig(pod or {}, "spec", "nodeSelector").items():
        resolved = key.startswith(_RESOLVED_AT_START) or (host_model and key.startswith(("cpu-model.", "cpu-feature.")))
        if key != "kubevirt.io/schedulable" and not resolved:
            needed[key] = value
    if pod is None:  # what KubeVirt will add, as far as these hosts carry such labels at all
        machine, architecture = dig(spec, "domain", "machine").get("type"), spec.get("architecture")
        expected = {
            f"{_CPU_MODEL}{model}": "true" if not host_model and model != "host-passthrough" else None,
            f"{_MACHINE}{machine}": "true" if machine else None,
            "kubernetes.io/arch": architecture,
        }
        known = hosts.label_keys | {key.rpartition("/")[0] for key in hosts.label_keys if key.startswith((_CPU_MODEL, _MACHINE))}
        needed |= {key: value for key, value in expected.items() if value is not None and {key, key.rpartition("/")[0]} & known}
    return needed


def _claims(vm: Json, spec: Json, pod: Json | None, disks: Disks) -> list[str]:
    """Claims the VM needs: its volumes, those of its pod, and KubeVirt's own one for TPM and firmware state."""
    found: dict[str, None] = {}
    for volume in spec.get("volumes") or ():
        for name in (
            dig(volume, "persistentVolumeClaim").get("claimName"),
            dig(volume, "dataVolume").get("name"),
            dig(volume, "ephemeral", "persistentVolumeClaim").get("claimName"),
        ):
            if name:
                found[name] = None
    for volume in dig(pod or {}, "spec").get("volumes") or ():
        if name := dig(volume, "persistentVolumeClaim").get("claimName"):
            found[name] = None
    namespace, name = vm["metadata"].get("namespace", "default"), vm["metadata"]["name"]
    tpm = dig(spec, "domain", "devices", "tpm").get("persistent")
    if tpm or dig(spec, "domain", "firmware", "bootloader", "efi").get("persistent"):
        for (where, claim), pvc in disks.claims.items():
            if where == namespace and dig(pvc, "metadata", "labels").get("persistent-state-for") == name:
                found[claim] = None
    return list(found)


def _claim_places(namespace: str, name: str, disks: Disks) -> tuple[str, Json]:
    """Why a claim binds its VM to one host (or ""), and the node selector of its volume (or {})."""
    claim = disks.claims.get((namespace, name))
    if claim is None:
        return f"claim {name} is not known (missing, or not in the input: add pvc,pv)", {}
    volume_name = dig(claim, "spec").get("volumeName")
    if not volume_name:
        return f"claim {name} is not bound to a volume yet", {}
    volume = disks.volumes.get(volume_name)
    if volume is None:
        return f"volume {volume_name} of claim {name} is not known (missing, or not in the input: add pv)", {}
    modes = dig(volume, "spec").get("accessModes") or ()
    if "hostPath" in dig(volume, "spec") and "ReadWriteMany" not in modes:
        return f"claim {name} is a directory of one host (hostPath, {'/'.join(modes) or 'no access mode'})", {}
    required = dig(volume, "spec", "nodeAffinity", "required")
    if "local" in dig(volume, "spec") and not required:
        return f"claim {name} is a local volume of one host", {}
    return "", required


def _matches_term(term: Json, node: Json) -> bool:
    """All expressions and fields of one term; an empty term matches nothing, as in Kubernetes."""
    expressions, fields = term.get("matchExpressions") or (), term.get("matchFields") or ()
    if not expressions and not fields:
        return False
    name = {"metadata.name": node["metadata"]["name"]}
    return all(_requirement(r, _labels(node)) for r in expressions) and all(_requirement(r, name) for r in fields)


def _requirement(requirement: Json, labels: Mapping[str, str]) -> bool:
    key, values = str(requirement.get("key")), list(requirement.get("values") or ())
    value = labels.get(key)
    match requirement.get("operator"):
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                difference = int(value or "") - int(values[0])
            except (ValueError, IndexError):
                return False
            return difference > 0 if operator == "Gt" else difference < 0
        case _:
            return False  # an operator of a newer Kubernetes: doubt keeps the VM off that host
