"""From Kubernetes JSON to the core's facts: one `Snapshot` per pool. Pure, and the same for a live read and for a dump.

Where something cannot be read, `strict` decides: the command line says so and stops (`BadInput`), the controller goes on with the
rest of the pool, leaves that thing out on the safe side, and says so in `Snapshot.remarks`.

What counts as memory in use: every pod that is bound to a host and has not finished, by its effective request. A VM that should run
and has no bound pod is in the snapshot without a host: a protected one is then planned as "to be placed first"; an unprotected
one takes no memory until its pod is bound, or until the admission ledger reserves its place.
"""

import contextlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial

from quorate_api.hahost import HAHost
from quorate_controller import agility, apart, memory, pages
from quorate_controller.kube import Json
from quorate_controller.membership import Wish, described, key_of, parse_pool, pool_of
from quorate_controller.memory import dig, quantity_bytes
from quorate_controller.observe import BadInput, Observed
from quorate_controller.world import FINISHED, SCHEDULABLE_LABEL, Grown, World, world_of
from quorate_core import ledger
from quorate_core.facts import Host, HostPhase, OvercommitPolicy, Pool, Protection, Snapshot, Vm

_GONE = {HostPhase.LOST: "lost", HostPhase.EVICTED: "evicted", HostPhase.EXCLUDED: "excluded", HostPhase.MAINTENANCE: "in maintenance"}


def snapshot_of(
    observed: Observed, pool: str | None = None, reservations: Iterable[ledger.Reservation] = (), *, strict: bool = True
) -> Snapshot:
    """The pool as it is, and as the reservations of the admission ledger will make it. The only pool where none is named.

    Raises `BadInput` naming object and field: no such pool, a wrong field, and with `strict` also a Node that two pools select
    or one without allocatable memory.
    """
    if pool is None:
        names = [obj["metadata"]["name"] for obj in observed.hapools]
        if len(names) != 1:
            said = f"there are {', '.join(names)}; name one" if names else "there is none"
            raise BadInput("input", "HAPool", said)
        pool = names[0]
    return snapshot_from(world_of(observed, strict=strict), pool, reservations)


def snapshot_from(world: World, pool: str, reservations: Iterable[ledger.Reservation] = ()) -> Snapshot:
    """The same from objects that were indexed already."""
    obj = next((o for o in world.observed.hapools if o["metadata"]["name"] == pool), None)
    if obj is None:
        raise BadInput("input", "HAPool", f"there is no pool {pool}")
    model = parse_pool(obj)
    contested = world.membership.contested.get(pool, ())
    if contested and world.strict:
        raise BadInput(described(obj), "spec.hostSelector", contested[0])
    remarks = [*world.remarks, *contested]
    nodes = world.membership.nodes[pool]
    if not nodes:
        remarks.append(f"HAPool {pool}: spec.hostSelector: no Node is selected")
    vms = _vms(world, pool, nodes, remarks)
    page_size = world.page_sizes.get(pool) or pages.size_of_pool((vm for vm, _ in vms), nodes)
    if page_size:
        vms = [(pages.counted(vm, page_size), extra) for vm, extra in vms]
    tolerated = _taints_that_vms_tolerate(nodes, vms, world)
    hosts = [_host(world, node, model.spec.failure_domain_key, tolerated, remarks) for node in nodes]
    hosts = [_beside_pods(world, _with_hugepages(world, host, node, page_size, remarks)) for host, node in zip(hosts, nodes, strict=True)]
    dead = {host.name for host in hosts if host.phase is HostPhase.FENCED}
    grown: dict[str, tuple[int, int]] = {}
    for vm, extra in vms:
        if vm.host is not None and (extra or vm.hugepages_bytes):
            size, hugepages = grown.get(vm.host, (0, 0))
            grown[vm.host] = size + extra, hugepages + _grown_hugepages(world, vm)
    snapshot = Snapshot(
        pool=Pool(
            name=pool,
            host_failures_to_tolerate=model.spec.host_failures_to_tolerate,
            armed=model.status.phase in {"Armed", "Recovering"},
            overcommit_policy=OvercommitPolicy(model.spec.overcommit_policy),
            failure_domain_key=model.spec.failure_domain_key,
        ),
        hosts=tuple(_grown(host, *grown.get(host.name, (0, 0))) for host in hosts if host.name not in dead),
        vms=tuple(_without_dead(vm, dead) for vm, _ in vms),
        remarks=tuple(dict.fromkeys(remarks)),
        page_size=page_size,
        layout=world.layouts.get(pool),
    )
    return ledger.reserve(snapshot, reservations)


def _beside_pods(world: World, host: Host) -> Host:
    taken = world.neighbours.taken.get(host.name)
    return host if taken is None else replace(host, apart=taken)


def _grown(host: Host, size_bytes: int, hugepages_bytes: int) -> Host:
    if not size_bytes and not hugepages_bytes:
        return host
    used, hugepages = host.used_bytes + size_bytes, host.used_hugepages_bytes + hugepages_bytes
    return replace(host, used_bytes=used, used_hugepages_bytes=hugepages)


def _grown_hugepages(world: World, vm: Vm) -> int:
    """Bytes by which a VM's hugepages have grown since its launcher pod was made."""
    pod = world.bound_pod(vm.key)
    return max(0, vm.hugepages_bytes - pages.pod_hugepages(pod or {}).get(vm.page_size, 0)) if vm.hugepages_bytes else 0


def _without_dead(vm: Vm, dead: set[str]) -> Vm:
    """A VM whose host is certified dead has no host and can go to none of the dead."""
    if not dead:
        return vm
    allowed = vm.allowed - dead if vm.allowed is not None else None
    return replace(vm, host=None if vm.host in dead else vm.host, allowed=allowed)


def _host(world: World, node: Json, domain_key: str | None, tolerated: frozenset[str], remarks: list[str]) -> Host:
    name = node["metadata"]["name"]
    hahost = world.membership.hahosts.get(name)
    phase = (hahost.status.phase if hahost is not None else None) or HostPhase.JOINING
    why = "; ".join(_why_no_vms(world, node, hahost, phase, tolerated))
    used = _used(world, world.pods_by_node.get(name, ()), remarks)
    allocatable = _allocatable(world, node, "memory", remarks)
    domain = dig(node, "metadata", "labels").get(domain_key) if domain_key else None
    if domain_key and domain is None:
        remarks.append(f"Node {name}: metadata.labels[{domain_key}]: missing; it counts as a failure domain of its own")
    leaving = hahost is not None and hahost.spec.maintenance
    return Host(name, allocatable, used, phase, accepts_vms=not why, why_not=why, domain=domain, leaving=leaving)


def _with_hugepages(world: World, host: Host, node: Json, page_size: str, remarks: list[str]) -> Host:
    resource = pages.PREFIX + page_size
    if not page_size or resource not in dig(node, "status", "allocatable"):
        return host
    used = _used(world, world.pods_by_node.get(host.name, ()), remarks, resource)
    return replace(host, allocatable_hugepages_bytes=_allocatable(world, node, resource, remarks), used_hugepages_bytes=used)


def _allocatable(world: World, node: Json, resource: str, remarks: list[str]) -> int:
    amount = _given(dig(node, "status", "allocatable").get(resource))
    try:
        return quantity_bytes(amount, f"Node {node['metadata']['name']}", f"status.allocatable.{resource}")
    except BadInput as error:
        if world.strict:
            raise
        remarks.append(f"{error}; counted as none")
        return 0


def _used(world: World, pods: tuple[Json, ...], remarks: list[str], resource: str = "memory") -> int:
    """Bytes that these pods request; what cannot be read is among the remarks."""
    if world.memo is not None:
        with contextlib.suppress(BadInput):
            return world.memo.of(f"used {resource}", (pods,), lambda: sum(_request(world, pod, resource) for pod in pods))
    used = 0
    for pod in pods:
        try:
            used += _request(world, pod, resource)
        except BadInput as error:
            if world.strict:
                raise
            remarks.append(f"{error}; not counted")
    return used


def _request(world: World, pod: Json, resource: str) -> int:
    request = partial(memory.pod_request_bytes, pod, resource)
    return request() if world.memo is None else world.memo.of(f"request {resource}", (pod,), request)


def _given(value: object) -> object:
    return "missing" if value is None else value


def _why_no_vms(world: World, node: Json, hahost: HAHost | None, phase: HostPhase, tolerated: frozenset[str]) -> list[str]:
    """Reasons for which no launcher pod may be placed on this Node now."""
    why = [_GONE[phase]] if phase in _GONE else []
    if hahost is not None and hahost.spec.maintenance and phase is not HostPhase.MAINTENANCE:
        why.append("in maintenance")
    if dig(node, "spec").get("unschedulable"):
        why.append("cordoned")
    ready: Json = next((c for c in dig(node, "status").get("conditions") or () if c.get("type") == "Ready"), {})
    if ready.get("status") != "True":
        why.append(f"not Ready ({ready.get('reason') or 'no Ready condition'})")
    label = dig(node, "metadata", "labels").get(SCHEDULABLE_LABEL)
    if label == "false" or (label is None and world.labels_schedulable):
        why.append(f"KubeVirt cannot run VMs on it (label {SCHEDULABLE_LABEL}={label})")
    permanent = agility.permanent_taints(node)
    why += [f"taint {taint.get('key')}" for taint in permanent if _taint_key(taint) not in tolerated]
    passing = [t for t in dig(node, "spec").get("taints") or () if t.get("effect") in agility.HARD and t not in permanent]
    mirrored = {"node.kubernetes.io/unschedulable", "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    why += [f"taint {taint.get('key')}" for taint in passing if taint.get("key") not in mirrored]
    return why


def _taint_key(taint: Json) -> str:
    return f"{taint.get('key')}={taint.get('value', '')}:{taint.get('effect')}"


def _taints_that_vms_tolerate(nodes: Sequence[Json], vms: Sequence[tuple[Vm, int]], world: World) -> frozenset[str]:
    """Taints that some VM of the pool tolerates: they close a host to some VMs, not to all."""
    taints = {_taint_key(taint): taint for node in nodes for taint in agility.permanent_taints(node)}
    if not taints:
        return frozenset()
    keys = {vm.key for vm, _ in vms}
    tolerations = [
        [t for t in dig(vm, "spec", "template", "spec").get("tolerations") or () if isinstance(t, dict)]
        for vm in world.observed.vms
        if key_of(vm) in keys
    ]
    return frozenset(key for key, taint in taints.items() if any(agility.tolerates(list_, taint) for list_ in tolerations))


def _vms(world: World, pool: str, nodes: Sequence[Json], remarks: list[str]) -> list[Grown]:
    """VMs of the pool. What the world knows of them already is taken from there, except what depends on other VMs and pods."""
    translate = _translator(world, pool, nodes)
    known = world.translated.setdefault(pool, {})
    found: list[Grown] = []
    for key, obj in world.vms.items():
        at = known.get(key)
        if at is None:
            said: list[str] = []
            at = known[key] = translate(obj, said), said
        remarks += at[1]
        if at[0] is not None:
            found.append(at[0])
    if world.neighbours.silent(world.vms):
        return found
    return [(apart.with_rules(vm, world.neighbours.rule(vm.key, world.vms[vm.key]), nodes), grown) for vm, grown in found]


def _translator(world: World, pool: str, nodes: Sequence[Json]) -> Callable[[Json, list[str]], Grown | None]:
    """From a VirtualMachine to the pool's VM; None if it is not of this pool or cannot be counted. Remarks are added to the list."""
    pools = [*world.membership.nodes]
    pool_of_node = {node["metadata"]["name"]: p for p, members in world.membership.nodes.items() for node in members}
    hosts = agility.Hosts(nodes)
    memo, around = world.memo, _around(world, pool, nodes)

    def translate(obj: Json, remarks: list[str]) -> Grown | None:
        key = key_of(obj)
        wish = world.wishes.get(key)
        pod = world.bound_pod(key)
        host: str | None = dig(pod or {}, "spec").get("nodeName")
        belongs, why = pool_of(wish, pool_of_node.get(host or ""), pools)
        if wish is not None and belongs is None:
            remarks.append(f"{wish.source}: {why}")
        if belongs != pool:
            return None
        if host is not None and host not in hosts.names:
            if wish is not None and wish.spec.protection is not Protection.UNPROTECTED:
                remarks.append(f"{wish.source}: {key} runs on {host}, which is no host of pool {pool}; it is not planned for")
            return None
        try:
            make = partial(_vm, world, obj, wish, pod, host, hosts)
            return make() if memo is None else memo.of("vm", (obj, wish, pod, world.pending_pod(key), world.vmis.get(key), *around), make)
        except BadInput as error:
            if world.strict:
                raise
            remarks.append(f"{error}; VM not counted")
        except _UnknownSize as error:
            remarks.append(f"VirtualMachine {key}: {error}; VM not counted")
        return None

    return translate


def _around(world: World, pool: str, nodes: Sequence[Json]) -> tuple[object, ...]:
    """All that a VM's facts depend on besides its own objects; of a Node its labels and taints, not its heartbeats."""
    if world.memo is None:
        return ()
    observed = world.observed
    marks = [(node["metadata"]["name"], dig(node, "metadata", "labels"), dig(node, "spec").get("taints")) for node in nodes]
    rest = {"pvcs": observed.pvcs, "pvs": observed.pvs, "kubevirts": observed.kubevirts, "instancetypes": observed.instancetypes}
    return world.memo.same(f"nodes of {pool}", marks), *(world.memo.same(name, objects) for name, objects in rest.items())


class _UnknownSize(Exception):
    """A VM's memory comes from an object that is not in the input."""


def _vm(world: World, obj: Json, wish: Wish | None, pod: Json | None, host: str | None, hosts: agility.Hosts) -> tuple[Vm, int]:
    key = key_of(obj)
    size, grown = _size(world, obj, pod)
    places = agility.places(obj, pod or world.pending_pod(key), hosts, world.disks, host)
    page_size, hugepages = _hugepages(world, obj, pod or world.pending_pod(key))
    spec = wish.spec if wish is not None else None
    vm = Vm(
        key=key,
        size_bytes=size,
        host=host,
        protection=spec.protection if spec is not None else Protection.UNPROTECTED,
        priority=spec.priority if spec is not None else 0,
        start_delay_seconds=spec.start_delay_seconds if spec is not None else 0,
        should_run=should_run(obj, world.vmis.get(key)),
        allowed=None if places.allowed == hosts.names else places.allowed,
        not_agile=places.reasons,
        hugepages_bytes=hugepages,
        page_size=page_size,
    )
    return vm, grown


def _hugepages(world: World, obj: Json, pod: Json | None) -> tuple[str, int]:
    """The page size of the VM's next launcher pod, and what it will request of those pages: no less than its present pod does."""
    asked = pages.pod_hugepages(pod) if pod is not None else {}
    instancetype, missing = _instancetype(world, obj)
    spec = dig(obj, "spec", "template", "spec")
    if instancetype is not None:
        spec = memory.expanded(spec, dig(instancetype, "spec"), described(obj))
    if missing:
        spec = dig(world.vmis.get(key_of(obj)), "spec")
    if "hugepages" not in dig(spec, "domain", "memory"):
        return max(asked.items(), key=lambda item: (item[1], item[0]), default=("", 0)) if missing else ("", 0)
    size, wanted = memory.vmi_hugepages(spec, described(obj), world.config, "spec.template.spec")
    return size, max(wanted, asked.get(size, 0))


def _size(world: World, obj: Json, pod: Json | None) -> tuple[int, int]:
    """What the VM's next launcher pod will request, and how much of that its present pod does not have."""
    key = key_of(obj)
    name = described(obj)
    vmi = world.vmis.get(key)
    template = dig(obj, "spec", "template", "spec")
    instancetype, missing = _instancetype(world, obj)
    if instancetype is not None:
        template = memory.expanded(template, dig(instancetype, "spec"), name)
    if world.strict and not missing:
        memory.vmi_memory_bytes(template, name, world.config, "spec.template.spec")  # also where a running pod hides it
    real = pod or world.pending_pod(key)
    if real is None and missing and vmi is None:
        raise _UnknownSize(missing)
    if real is None:
        spec = dig(vmi, "spec") if missing else template
        return memory.vmi_memory_bytes(spec, name, world.config, "spec.template.spec"), 0
    request = memory.pod_request_bytes(real)
    if vmi is None or missing:
        return request, 0
    present = dict(dig(vmi, "spec"))
    domain = dig(present, "domain")
    current = dig(vmi, "status", "memory").get("guestCurrent")
    if current is not None:  # a hotplug under way: the VMI's spec is ahead of its pod
        present["domain"] = {**domain, "memory": {**dig(domain, "memory"), "guest": current}}
    wanted = {part: dig(template, "domain")[part] for part in ("memory", "resources", "cpu") if part in dig(template, "domain")}
    same = dig(present, "domain")
    if all(same.get(part) == value for part, value in wanted.items()):
        return request, 0
    after = memory.vmi_memory_bytes({**present, "domain": {**domain, **wanted}}, name, world.config, "spec.template.spec")
    before = memory.vmi_memory_bytes(present, name, world.config, "spec")
    grown = max(0, after - before)
    return request + grown, grown if pod is not None else 0


def _instancetype(world: World, obj: Json) -> tuple[Json | None, str]:
    """The VM's instancetype, or why it cannot be had ("" where the VM has none)."""
    reference = dig(obj, "spec", "instancetype")
    if not reference.get("name"):
        return None, ""
    kind = reference.get("kind") or "VirtualMachineClusterInstancetype"
    kind = {"virtualmachineinstancetype": "VirtualMachineInstancetype"}.get(kind.lower(), kind)
    kind = {"virtualmachineclusterinstancetype": "VirtualMachineClusterInstancetype"}.get(kind.lower(), kind)
    name = reference["name"]
    if "Cluster" not in kind:
        name = f"{obj['metadata'].get('namespace') or 'default'}/{name}"
    found = world.instancetypes.get((kind, name))
    return found, "" if found is not None else f"its memory is set by {kind} {name}, which is missing or not in the input"


def should_run(vm: Json, vmi: Json | None) -> bool:
    """Whether the user wants it to run, by run strategy (or the deprecated `running`), requests and the state of its instance."""
    if vm["metadata"].get("deletionTimestamp"):
        return False
    spec, status = dig(vm, "spec"), dig(vm, "status")
    strategy = spec.get("runStrategy") or ("Always" if spec.get("running") else "Halted")
    requests = [request.get("action") for request in status.get("stateChangeRequests") or () if isinstance(request, dict)]
    phase = dig(vmi, "status").get("phase") if vmi is not None else None
    if strategy == "Always" or "Start" in requests:
        return True
    if "Stop" in requests:
        return False
    lives = vmi is not None and phase not in FINISHED and not vmi["metadata"].get("deletionTimestamp")
    match strategy:
        case "RerunOnFailure":
            never_started = vmi is None and status.get("runStrategy") != strategy
            return lives or phase == "Failed" or never_started
        case "Once":
            return phase not in FINISHED
        case "Halted":
            return False
        case _:  # Manual, WaitAsReceiver: an instance is there because somebody started it
            return lives or phase == "Failed"
