"""From what is asked to changes with facts: which pool, which VM, how large, on which hosts. Pure; one `Scene` per fresh read.

What a VM will be after a change is found by translating the object of the request exactly as the controller translates the objects
of the cluster, so admission and status cannot disagree about a size or a reason.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from quorate_api.hahost import HAHost
from quorate_api.protectedvm import ProtectedVM, ProtectedVMSpec, VmReference
from quorate_controller.admission import decisions, requests
from quorate_controller.admission.decisions import Allow, Asked, Verdict
from quorate_controller.admission.requests import Request
from quorate_controller.following import Following
from quorate_controller.kube import Json
from quorate_controller.membership import Wish, described, key_of, memberships, parse, parse_pool, pool_of, wishes
from quorate_controller.memory import dig
from quorate_controller.observe import BadInput, Observed
from quorate_controller.translate import snapshot_from
from quorate_controller.world import world_of
from quorate_core.facts import Protection, Snapshot, Vm

_RESTARTED = frozenset({"Running", "Skipped"})


@dataclass(frozen=True, slots=True)
class Questions:
    """What the plan has to answer. Each alternative is a pool and the changes to it; the first that can be allowed is taken."""

    alternatives: tuple[tuple[str, tuple[Asked, ...]], ...]
    warnings: tuple[str, ...] = ()


Assessment = Verdict | Questions


class Scene:
    """The cluster as read once, ready for any number of requests. `snapshots` hold no reservations."""

    def __init__(self, observed: Observed, following: Following | None = None) -> None:
        self._observed = observed
        self._world = world_of(observed) if following is None else following.world(observed)
        self.snapshots: Mapping[str, Snapshot] = {pool: snapshot_from(self._world, pool) for pool in sorted(self._world.membership.nodes)}
        self._recovering = recovering(observed.failovers)

    def assess(self, request: Request) -> Assessment:
        """What the request asks of which pool. Raises `BadInput` naming object and field where it cannot be read."""
        asks = requests.asks(request)
        if not asks:
            return Allow()
        match asks[0]:
            case requests.StopVm():
                return self._stop(request, asks[0])
            case requests.StartVm(vm):
                # The restart path: the failover has planned a place for this VM and may have asked KubeVirt for this very start.
                return Allow() if request.key in self._recovering else self._vm_changes(request, vm, starts=True)
            case requests.EditVm(vm):
                return self._vm_changes(request, vm, starts=False)
            case requests.SetProtection(obj):
                return self._protection(request, obj)
            case requests.EditPool(obj, old):
                return self._pool(request, obj, old)
            case requests.EditHost(obj, old):
                return self._host(request, obj, old)

    def _stop(self, request: Request, stop: requests.StopVm) -> Assessment:
        # Judged by what the cluster says now: a reservation may still count a protection that was taken back a moment ago.
        asked = _asked(request, decisions.Stop(request.key, stop.deleted))
        return Questions(
            tuple(
                (pool, (asked,))
                for pool, snapshot in self.snapshots.items()
                if (vm := snapshot.vm(request.key)) is not None and vm.protection is Protection.PROTECTED
            )
        )

    def _vm_changes(self, request: Request, vm: Json, *, starts: bool) -> Assessment:
        """A VM that starts takes its whole new size; one that only changes is compared with what it is."""
        key, alternatives, warnings = key_of(vm), [], []
        for pool, after in self._facts(vm, self._wish(vm), lenient=True):
            before = self.snapshots[pool].vm(key)
            changes: list[decisions.Change] = []
            if starts:
                changes.append(decisions.Start(replace(after, should_run=True, host=None)))
            else:
                if before is not None and decisions.grows(after, before):
                    changes.append(decisions.Grow(after))
                if after.protection is Protection.PROTECTED and (before is None or before.protection is not Protection.PROTECTED):
                    changes.append(decisions.Protect(after))
                elif after.protection is Protection.PROTECTED and after.not_agile and before is not None and not before.not_agile:
                    warnings.append(
                        f"Quorate: after its next start {described(vm)} could run on one host only: {'; '.join(after.not_agile)}"
                    )
            if changes:
                alternatives.append((pool, tuple(_asked(request, change) for change in changes)))
        return Questions(tuple(alternatives), tuple(warnings))

    def _protection(self, request: Request, obj: Json) -> Assessment:
        spec = parse(ProtectedVM, obj).spec
        key = f"{request.namespace}/{spec.vm_ref.name}"
        if spec.pool is not None and spec.pool not in self.snapshots:
            raise BadInput(described(obj), "spec.pool", f"there is no HAPool {spec.pool}")
        vm = self._world.vms.get(key)
        if vm is None:
            return Allow((f"Quorate: {described(obj)}: spec.vmRef.name: there is no VirtualMachine {key} yet",))
        others = [o for o in self._world.named.get(key, ()) if o["metadata"]["name"] != request.name]
        warnings = tuple(f"Quorate: {described(obj)}: spec.vmRef.name: {described(o)} names {key} too; the stronger counts" for o in others)
        if spec.protection is not Protection.PROTECTED:
            return Allow(warnings)
        facts = self._facts(vm, Wish(key, spec, described(obj)), lenient=False)
        return Questions(tuple((pool, (_asked(request, decisions.Protect(after)),)) for pool, after in facts), warnings)

    def _pool(self, request: Request, obj: Json, old: Json | None) -> Assessment:
        pool = parse_pool(obj)
        name = request.name
        after = memberships(replace(self._observed, hapools=(*(p for p in self._observed.hapools if p["metadata"]["name"] != name), obj)))
        contested = set(after.contested.get(name, ())) - set(self._world.membership.contested.get(name, ()))
        if contested:
            raise BadInput(described(obj), "spec.hostSelector", min(contested))
        hosts, wish = len(after.nodes.get(name, ())), pool.spec.host_failures_to_tolerate
        warnings: tuple[str, ...] = ()
        if not hosts:
            warnings = (f"Quorate: {described(obj)}: spec.hostSelector: no Node is selected",)
        elif wish >= hosts:
            warnings = (
                f"Quorate: {described(obj)}: spec.hostFailuresToTolerate: {wish} failures of {hosts} hosts leave none to restart VMs on",
            )
        raised = old is not None and wish > int(dig(old, "spec").get("hostFailuresToTolerate", 1))
        if not raised or not pool.spec.enabled or name not in self.snapshots:
            return Allow(warnings)
        return Questions(((name, (_asked(request, decisions.Tolerate(wish)),)),), warnings)

    def _host(self, request: Request, obj: Json, old: Json | None) -> Assessment:
        host = parse(HAHost, obj)
        if host.spec.pool not in self.snapshots:
            raise BadInput(described(obj), "spec.pool", f"there is no HAPool {host.spec.pool}")
        if all(node["metadata"]["name"] != request.name for node in self._observed.nodes):
            return Allow((f"Quorate: {described(obj)}: metadata.name: there is no Node {request.name}",))
        if not host.spec.maintenance or dig(old, "spec").get("maintenance"):
            return Allow()
        change = decisions.Maintain(request.name, may_lower=host.spec.maintenance_policy == "LowerTolerance")
        return Questions(((host.spec.pool, (_asked(request, change),)),))

    def _wish(self, vm: Json) -> Wish | None:
        """What is wished for a VM of a request: by its ProtectedVM, else by the label that it will have."""
        key = key_of(vm)
        found, _ = wishes(Observed(vms=(vm,), protectedvms=self._world.named.get(key, ())), strict=False)
        if key not in found:
            found, _ = wishes(Observed(vms=(vm,)), strict=True)
        return found.get(key)

    def _facts(self, vm: Json, wish: Wish | None, *, lenient: bool) -> Sequence[tuple[str, Vm]]:
        """The VM as it will be, in each pool that it may land in. Where its wish names no usable pool: any (lenient), or `BadInput`."""
        key = key_of(vm)
        present = next((pool for pool, snapshot in self.snapshots.items() if (v := snapshot.vm(key)) is not None and v.host), None)
        belongs, why = pool_of(wish, present, self.snapshots)
        if belongs is None and wish is not None and not lenient:
            raise BadInput(wish.source, "spec.pool", why)
        if belongs is not None:
            return [(belongs, self._translated(vm, wish, belongs))]
        found = [(pool, self._translated(vm, wish, pool)) for pool in self.snapshots]
        # Of several pools it may land in those with a host for it; where none has one, it is no pool's business.
        return [(pool, after) for pool, after in found if after.allowed is None or after.allowed]

    def _translated(self, vm: Json, wish: Wish | None, pool: str) -> Vm:
        key = key_of(vm)
        spec = (
            wish.spec
            if wish is not None
            else ProtectedVMSpec(vm_ref=VmReference(name=key.partition("/")[2]), protection=Protection.UNPROTECTED)
        )
        own = Wish(key, spec.model_copy(update={"pool": pool}), wish.source if wish is not None else described(vm))
        # NB: only this VM is wanted, so only it is translated: a burst of requests must not read every pod again for each.
        seen = replace(self._observed, vms=(vm,))
        alone = replace(self._world, observed=seen, vms={key: vm}, wishes={key: own}, pods_by_node={}, remarks=(), memo=None, translated={})
        sizes = {name: known.page_size for name, known in self.snapshots.items()}
        snapshot = snapshot_from(replace(alone, page_sizes=sizes), pool)
        found = snapshot.vm(key)
        if found is not None:
            return found
        why = next((remark for remark in snapshot.remarks if key in remark), f"it runs on a host that is not in pool {pool}")
        raise BadInput(described(vm), "", why.removeprefix(f"{described(vm)}: ").removesuffix("; VM not counted"))


def recovering(failovers: Iterable[Json]) -> frozenset[str]:
    """VMs that an unfinished failover is still to restart."""
    found: set[str] = set()
    for failover in failovers:
        status = dig(failover, "status")
        if status.get("phase") == "Completed":
            continue
        done = {vm.get("vm") for vm in status.get("vms") or () if vm.get("phase") in _RESTARTED}
        found |= {str(vm.get("vm")) for vm in dig(failover, "spec").get("restarts") or ()} - done
    return frozenset(found)


def _asked(request: Request, change: decisions.Change) -> Asked:
    return Asked(request.uid, described(request.object), change, request.override, exists=request.old is not None)
