"""status and explain: where the pool stands, and why a VM or host is as it is. Reads only."""

from typing import Any

from quorate_api.hahost import HAHost
from quorate_cli import render, source
from quorate_controller import membership
from quorate_controller.kube import Json
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput, Observed
from quorate_core import timing
from quorate_core.facts import Protection, Snapshot, Vm
from quorate_planner import Plan, plan, plan_json


def status(where: source.Source, output: render.Output) -> int:
    """Pools, hosts and protected VMs."""
    observed = where.observed()
    snapshots = where.snapshots(observed)
    if output is not render.Output.TABLE:
        documents = [{**plan_json(plan(s), 0.0), "phase": _phase(observed, s.pool.name), "hostPhases": _phases(s)} for s in snapshots]
        render.data(documents[0] if len(documents) == 1 else documents, output)
        return 0
    for snapshot in snapshots:
        found = plan(snapshot)
        pool = membership.parse_pool(_named(observed.hapools, snapshot.pool.name, "HAPool"))
        render.say(f"{render.plan_lines(found)[0]}; phase {pool.status.phase or 'unknown'}")
        for condition in pool.status.conditions:
            if (condition.status != "True") != (condition.type == "Overcommitted"):
                render.say(f"{condition.type} is {condition.status}: {condition.message}")
        for remark in snapshot.remarks:
            render.say(f"note: {remark}")
        running: dict[str, list[str]] = {}
        for vm in snapshot.vms:
            if vm.host is not None:
                running.setdefault(vm.host, []).append(vm.key)
        render.hosts(snapshot, running)
        render.protected_vms(snapshot, found)
    return 0


def explain(where: source.Source, kind: str, name: str, output: render.Output) -> int:
    """One VM, host or pool in sentences."""
    if kind not in {"vm", "host", "pool"}:
        raise BadInput("explain", kind, "is not one of vm, host, pool")
    observed = where.observed()
    match kind:
        case "vm":
            lines = _vm(where, observed, name)
        case "host":
            lines = _host(where, observed, name)
        case _:
            lines = _pool(observed, name)
    if output is render.Output.TABLE:
        for line in lines:
            render.say(line)
    else:
        render.data({"kind": kind, "name": name, "explanation": lines}, output)
    return 0


def _vm(where: source.Source, observed: Observed, name: str) -> list[str]:
    key = name if "/" in name else f"default/{name}"
    for snapshot in where.snapshots(observed):
        vm = snapshot.vm(key)
        if vm is not None:
            return [*_about(vm, snapshot, plan(snapshot)), *_restarts(observed, key)]
    raise BadInput("explain", f"vm {key}", "there is no such VM in any pool; VMs are named namespace/name")


def _about(vm: Vm, snapshot: Snapshot, found: Plan) -> list[str]:
    where = f"runs on {vm.host}" if vm.host else ("should run and waits for a place" if vm.should_run else "is stopped")
    lines = [f"{vm.key} {where}, {vm.protection.value}, priority {vm.priority}, {render.gib(vm.size_bytes)} in pool {snapshot.pool.name}"]
    lines += [f"not agile: {reason}" for reason in vm.not_agile]
    others = [h.name for h in snapshot.hosts if h.name != vm.host and vm.may_run_on(h.name)]
    fitting = [h.name for h in snapshot.hosts if h.name in others and h.free_bytes >= vm.size_bytes]
    lines.append(f"{len(others)} other hosts may run it; {len(fitting)} of them have room now: {', '.join(fitting) or 'none'}")
    match vm.protection:
        case Protection.PROTECTED if vm.host is not None:
            planned = found.placements.get(vm.host, {}).get(vm.key)
            lines.append(f"if {vm.host} fails now it restarts on {planned}" if planned else f"if {vm.host} fails now it has no place")
        case Protection.BEST_EFFORT:
            lines.append("best-effort: tried once after all protected VMs, where there is room then")
        case Protection.UNPROTECTED:
            lines.append("unprotected: Quorate does not restart it; `quorate protect` does")
        case _:
            pass
    if not found.plan_exists and found.witness is not None:
        lines.append(f"the pool has no plan for {found.host_failures_to_tolerate}: {found.witness.reason}")
    return lines


def _restarts(observed: Observed, key: str) -> list[str]:
    lines = []
    for failover in observed.failovers:
        for progress in dig(failover, "status").get("vms") or ():
            if progress.get("vm") == key:
                said = f": {progress['reason']}" if progress.get("reason") else ""
                at = f" on {progress['host']}" if progress.get("host") else ""
                lines.append(f"failover {failover['metadata']['name']}: {progress.get('phase')}{at}{said}")
    return lines


def _host(where: source.Source, observed: Observed, name: str) -> list[str]:
    host = membership.parse(HAHost, _named(observed.hahosts, name, "HAHost"))
    said = host.status
    lines = [f"{name} of pool {host.spec.pool}: {said.phase or 'phase unknown'}, slot {said.slot}, address {said.address}"]
    if said.agent is None:
        lines.append("its agent has not reported yet: does the agent's pod run there?")
    else:
        agent = said.agent
        lines.append(
            f"agent: {agent.state}, incarnation {agent.incarnation}, boot {agent.boot_id}; {agent.message or 'nothing is missing'}"
        )
        for channel, view in (("storage", agent.storage), ("network", agent.network)):
            if view is not None:
                state = "works" if view.ok else "does NOT work"
                lines.append(f"{channel} {state}, sees {', '.join(view.sees) or 'nobody'}{': ' + view.message if view.message else ''}")
        if agent.addresses:
            lines.append(f"heartbeat addresses: {', '.join(address or 'none' for address in agent.addresses)}")
        if agent.storageless:
            lines.append("it lives on the network alone: no host of the pool has storage; any further loss then fences it")
        if agent.bound_seconds is not None:
            evicted = f", {agent.eviction_bound_seconds:g} s after an eviction" if agent.eviction_bound_seconds is not None else ""
            lines.append(f"if it falls silent, the others know it dead after {agent.bound_seconds:g} s{evicted}")
        lines += [f"it has evicted {gone.host}, incarnation {gone.incarnation}" for gone in agent.evictions]
        lines += [f"it has certified {c.host} dead ({c.kind}): {c.evidence}" for c in agent.certificates]
        if agent.watchdog is not None:
            dog = agent.watchdog
            lines.append(f"watchdog {dog.device} ({dog.identity}), {dog.timeout_seconds} s, {'armed' if dog.armed else 'not armed'}")
    if said.certificate is not None:
        c = said.certificate
        life = "this life" if said.agent is not None and said.agent.incarnation == c.incarnation else "an earlier life"
        lines.append(
            f"{life} (incarnation {c.incarnation}) was certified dead by {c.issued_by}, {c.issued_at:%Y-%m-%d %H:%M:%S}: {c.evidence}"
        )
    for condition in said.conditions:
        if condition.status != "True":
            lines.append(f"{condition.type} is {condition.status}: {condition.message}")
    for snapshot in where.snapshots(observed):
        counted = snapshot.host(name)
        if counted is not None:
            lines.append(f"memory: {render.gib(counted.used_bytes)} of {render.gib(counted.allocatable_bytes)} used")
            if counted.why_not:
                lines.append(f"takes no VM: {counted.why_not}")
    return lines


def _pool(observed: Observed, name: str) -> list[str]:
    pool = membership.parse_pool(_named(observed.hapools, name, "HAPool"))
    snapshot = next(s for s in source.Source(pool=name).snapshots(observed))
    lines = [*render.plan_lines(plan(snapshot)), *(f"note: {remark}" for remark in snapshot.remarks)]
    lines += [f"{c.type} is {c.status}: {c.message}" for c in pool.status.conditions]
    return [*lines, *_timing(pool.spec.heartbeat.profile, pool.spec.heartbeat.timing)]


def _timing(profile: Any, inputs: Any) -> list[str]:
    if inputs is not None:
        try:
            used = timing.Timing(inputs.licence_seconds, inputs.watchdog_seconds)
        except ValueError as error:
            return [str(error)]
    else:
        used = timing.FAST if profile == "Fast" else timing.STANDARD
    return used.timeline().splitlines()


def _named(objects: tuple[Json, ...], name: str, kind: str) -> Json:
    found = next((obj for obj in objects if obj["metadata"]["name"] == name), None)
    if found is None:
        known = ", ".join(obj["metadata"]["name"] for obj in objects) or "none"
        raise BadInput("explain", name, f"there is no {kind} of that name; there are: {known}")
    return found


def _phase(observed: Observed, pool: str) -> str | None:
    phase: str | None = dig(_named(observed.hapools, pool, "HAPool"), "status").get("phase")
    return phase


def _phases(snapshot: Snapshot) -> dict[str, str]:
    return {host.name: host.phase.value for host in snapshot.hosts}
