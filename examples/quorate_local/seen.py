"""What the API and the VM disks say of the demo's pool, in the words that the demo asks in. Reads only."""

import json

from quorate_core.facts import Protection
from quorate_local import hosts, pool, verdict, workload


def items(local: pool.LocalPool, resource: str, namespace: str | None = None) -> list[dict[str, object]]:
    """Objects of a kind as kubectl gives them."""
    where = ["-n", namespace] if namespace else []
    found: list[dict[str, object]] = json.loads(local.kubectl("get", resource, *where, "-o", "json"))["items"]
    return found


def dig(value: object, *path: str) -> object:
    """A field deep inside JSON, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def many(value: object, *path: str) -> list[object]:
    """A list deep inside JSON; empty if it is not there."""
    found = dig(value, *path)
    return found if isinstance(found, list) else []


def text_of(value: object, *path: str) -> str:
    """The same as text; empty if it is not there."""
    found = dig(value, *path)
    return "" if found is None else str(found)


def by_name(objects: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Objects by their name."""
    return {text_of(o, "metadata", "name"): o for o in objects}


def histories(local: pool.LocalPool) -> tuple[verdict.DiskHistory, ...]:
    """What every VM disk tells."""
    return verdict.read_disks(local.disks.iterdir())


def the_pool(local: pool.LocalPool) -> dict[str, object]:
    """The HAPool."""
    return by_name(items(local, "hapools"))[workload.POOL]


def hahosts(local: pool.LocalPool) -> dict[str, dict[str, object]]:
    """HAHosts by name."""
    return by_name(items(local, "hahosts"))


def incarnations(local: pool.LocalPool) -> dict[str, str]:
    """The present life of every host's agent."""
    return {name: text_of(host, "status", "agent", "incarnation") for name, host in hahosts(local).items()}


def certificate(local: pool.LocalPool, host: str, incarnation: str) -> dict[str, object]:
    """Why that life of the host is known to be over; empty until it is."""
    found = dig(hahosts(local)[host], "status", "certificate")
    return found if isinstance(found, dict) and found.get("incarnation") == incarnation else {}


def evicted(local: pool.LocalPool, lives: dict[str, str]) -> bool:
    """Whether other hosts have put all these lives of hosts out of the pool."""
    said = {
        (text_of(record, "host"), text_of(record, "incarnation"))
        for host in hahosts(local).values()
        for record in many(host, "status", "agent", "evictions")
    }
    return set(lives.items()) <= said


def failovers(local: pool.LocalPool, lives: dict[str, str]) -> list[dict[str, object]]:
    """The failovers of these lives of hosts, as far as they have begun."""
    found = items(local, "failovers")
    return [f for f in found if lives.get(text_of(f, "spec", "host"), "-") == text_of(f, "spec", "incarnation")]


def recovered(local: pool.LocalPool, lives: dict[str, str]) -> bool:
    """Whether the failover of each of them is complete."""
    found = failovers(local, lives)
    return len(found) == len(lives) and all(text_of(f, "status", "phase") == "Completed" for f in found)


def recorded(local: pool.LocalPool, lives: dict[str, str]) -> dict[str, str]:
    """Where the plan restarted each protected VM of these lives of hosts when their deaths were certified."""
    restarts = [r for failover in failovers(local, lives) for r in many(failover, "spec", "restarts")]
    return {text_of(r, "vm").rpartition("/")[2]: text_of(r, "plannedHost") for r in restarts if text_of(r, "plannedHost")}


def is_protected(pvm: dict[str, object]) -> bool:
    """Whether it is protected with a guarantee."""
    return text_of(pvm, "spec", "protection") == Protection.PROTECTED.value


def protected(local: pool.LocalPool) -> dict[str, dict[str, object]]:
    """ProtectedVMs with a guarantee, by name."""
    return {name: p for name, p in by_name(items(local, "protectedvms", workload.NAMESPACE)).items() if is_protected(p)}


def planned(local: pool.LocalPool, failing: set[str]) -> dict[str, str]:
    """Where each protected VM on these hosts is planned to restart."""
    return {n: text_of(p, "status", "plannedHost") for n, p in protected(local).items() if text_of(p, "status", "host") in failing}


def has_plan(local: pool.LocalPool, failures: int) -> bool:
    """Whether the pool is armed, a plan exists for so many failures, and every protected VM has its planned host."""
    status = dig(the_pool(local), "status")
    whole = text_of(status, "phase") == "Armed" and text_of(status, "planExistsFor") == str(failures)
    return whole and all(text_of(p, "status", "plannedHost") for p in protected(local).values())


def ready_nodes(local: pool.LocalPool) -> int:
    """How many Nodes of the pool are Ready."""
    conditions = [many(node, "status", "conditions") for node in items(local, "nodes")]
    return sum(any(text_of(c, "type") == "Ready" and text_of(c, "status") == "True" for c in cs) for cs in conditions)


def vm_hosts(local: pool.LocalPool) -> dict[str, str]:
    """Where each running VM is."""
    vmis = items(local, "virtualmachineinstances", workload.NAMESPACE)
    return {text_of(v, "metadata", "name"): text_of(v, "status", "nodeName") for v in vmis if text_of(v, "status", "phase") == "Running"}


def running_vms(local: pool.LocalPool) -> set[str]:
    """Names of the VMs that run."""
    return set(vm_hosts(local))


def elsewhere(local: pool.LocalPool, failed: set[str]) -> set[str]:
    """Names of the VMs that run on other hosts than these."""
    return {name for name, at in vm_hosts(local).items() if at not in failed}


def busiest_hosts(local: pool.LocalPool) -> list[hosts.Host]:
    """The hosts, the one with the most protected VMs first."""
    at = [text_of(p, "status", "host") for p in protected(local).values()]
    return [local.rack.hosts[name] for name in sorted(local.rack.hosts, key=lambda name: (-at.count(name), name))]


def is_back(local: pool.LocalPool, host: str) -> bool:
    """Whether the host is Live and no longer tainted."""
    live = text_of(hahosts(local)[host], "status", "phase") == "Live"
    taints = many(by_name(items(local, "nodes"))[host], "spec", "taints")
    return live and not any("out-of-service" in str(taint) for taint in taints)
