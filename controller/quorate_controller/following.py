"""The snapshots of a cluster that is seen again and again and changes a little at a time: only what has changed is translated anew.

What changed is found by identity, so the objects that did not must be the very same (`Mirror`, `observe.unchanged`), and no object may
be changed in place. A change to anything that many VMs depend on (a Node's labels, a claim, KubeVirt's configuration) starts anew.
What comes out is what `world_of` and `snapshot_from` say of the same objects; tests/controller/test_following.py holds it to that.
"""

from collections.abc import Iterable

from quorate_controller import apart, layouts
from quorate_controller.kube import Json
from quorate_controller.membership import Wish, key_of, named_vm, wishes
from quorate_controller.memo import Memo
from quorate_controller.memory import dig
from quorate_controller.observe import Observed
from quorate_controller.world import Index, Translated, World, finished, indexed, launched_vm

Name = tuple[str, str]


class Following:
    """What was worked out from the objects seen last. Used by one thread at a time; a world ends when the next one is made."""

    def __init__(self) -> None:
        self._memo = Memo()
        self._forget()

    def _forget(self) -> None:
        self._before = Observed()
        self._around: object = None
        self._vms: dict[str, Json] = {}
        self._vmis: dict[str, Json] = {}
        self._launchers: dict[str, tuple[Json, ...]] = {}
        self._pods_by_node: dict[str, tuple[Json, ...]] = {}
        self._named: dict[str, tuple[Json, ...]] = {}
        self._wishes: dict[str, Wish] = {}
        self._wish_remarks: dict[str, list[str]] = {}
        self._bound: dict[str, dict[str, layouts.Binding]] = {}
        self._translated: Translated = {}
        self._ruled: set[tuple[str, Name]] = set()

    def world(self, observed: Observed) -> World:
        """The objects, indexed. The world that was given before must not be used any more."""
        self._memo.turn()
        try:
            return self._followed(observed)
        except BaseException:
            self._forget()  # the tables may be half of the one and half of the other
            raise

    def _followed(self, observed: Observed) -> World:
        touched = self._look(observed)
        world = self._indexed(observed)
        around = _around(world)
        if around != self._around:
            if self._around is not None:
                self._forget()
                self._look(observed)
                world = self._indexed(observed)
            self._around = around
        for translated in self._translated.values():
            for key in touched:
                translated.pop(key, None)
        self._before = observed
        return world

    def _indexed(self, observed: Observed) -> World:
        remarks = [remark for said in self._wish_remarks.values() for remark in said]
        index = Index(self._vms, self._vmis, self._launchers, self._pods_by_node, self._named)
        stored = layouts.stored(observed, self._bound)
        return indexed(
            observed, (self._wishes, remarks), index, stored, memo=self._memo, translated=self._translated, ruled=bool(self._ruled)
        )

    def _look(self, observed: Observed) -> set[str]:
        """Bring the tables to these objects; the VMs that something was changed about."""
        before = self._before
        touched: set[str] = set()
        vms, pods = _changes(before.vms, observed.vms), _changes(before.pods, observed.pods)
        for old, new in (*vms, *pods):
            self._note_rules(old, new)
        for old, new in vms:
            _put(self._vms, old, new)
        if any(old is None for old, _ in vms):
            self._vms = {key_of(vm): vm for vm in observed.vms}  # in the order of all others who read them
        vmis = _changes(before.vmis, observed.vmis)
        for old, new in vmis:
            _put(self._vmis, old, new)
        touched.update(key_of(obj) for pair in (*vms, *vmis) for obj in pair if obj is not None)
        for old, new in pods:
            touched |= self._move(old, new)
        protected = _changes(before.protectedvms, observed.protectedvms)
        asked = {named_vm(obj) for pair in protected for obj in pair if obj is not None}
        self._rename(protected)
        for key in touched | asked:
            self._wish(key)
        return touched | asked

    def _note_rules(self, old: Json | None, new: Json | None) -> None:
        if old is not None:
            self._ruled.discard((old["kind"], _name(old)))
        if new is not None and apart.has_rules(new):
            self._ruled.add((new["kind"], _name(new)))

    def _move(self, old: Json | None, new: Json | None) -> set[str]:
        """One pod changed; whose launcher it was and is."""
        touched: set[str] = set()
        for pod, table in ((old, _without), (new, _with)):
            if pod is None or finished(pod):
                continue
            if host := dig(pod, "spec").get("nodeName"):
                table(self._pods_by_node, host, pod)
            if vm := launched_vm(pod):
                table(self._launchers, vm, pod)
                touched.add(vm)
        return touched

    def _rename(self, protected: Iterable[tuple[Json | None, Json | None]]) -> None:
        """ProtectedVMs changed: which of them name a VM, and to which zone it is bound."""
        bound = False
        for old, new in protected:
            if old is not None:
                _without(self._named, named_vm(old), old)
            if new is not None:
                _with(self._named, named_vm(new), new)
            bound = bound or old is None or new is None or _binding(old) != _binding(new)
        if bound:
            self._bound = layouts.bindings(obj for objects in self._named.values() for obj in objects)

    def _wish(self, key: str) -> None:
        vm = self._vms.get(key)
        found, remarks = wishes(
            Observed(vms=() if vm is None else (vm,), protectedvms=self._named.get(key, ())), strict=False, memo=self._memo
        )
        self._wishes.pop(key, None)
        self._wishes.update(found)
        self._wish_remarks.pop(key, None)
        if remarks:
            self._wish_remarks[key] = remarks


def _around(world: World) -> object:
    """All that any VM's facts depend on besides its own objects; of a Node its labels and taints, not its heartbeats."""
    observed = world.observed
    marks = {
        pool: [(node["metadata"]["name"], dig(node, "metadata", "labels"), dig(node, "spec").get("taints")) for node in nodes]
        for pool, nodes in world.membership.nodes.items()
    }
    return marks, observed.pvcs, observed.pvs, observed.kubevirts, observed.instancetypes


def _changes(before: tuple[Json, ...], after: tuple[Json, ...]) -> list[tuple[Json | None, Json | None]]:
    """Pairs of what an object was and is; None: it was or is not there."""
    if before is after:
        return []
    known, kept = set(map(id, before)), set(map(id, after))
    old_by_name = {_name(obj): obj for obj in before if id(obj) not in kept}
    new_by_name = {_name(obj): obj for obj in after if id(obj) not in known}
    gone = [(old, None) for name, old in old_by_name.items() if name not in new_by_name]
    return [*gone, *((old_by_name.get(name), new) for name, new in new_by_name.items())]


def _name(obj: Json) -> Name:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _binding(protected: Json) -> tuple[object, ...]:
    status = dig(protected, "status")
    return named_vm(protected), status.get("pool"), status.get("zone"), status.get("restartHosts")


def _put(table: dict[str, Json], old: Json | None, new: Json | None) -> None:
    if new is not None:
        table[key_of(new)] = new
    elif old is not None:
        table.pop(key_of(old), None)


def _with(table: dict[str, tuple[Json, ...]], key: str, obj: Json) -> None:
    table[key] = tuple(sorted((*table.get(key, ()), obj), key=_name))


def _without(table: dict[str, tuple[Json, ...]], key: str, obj: Json) -> None:
    left = tuple(other for other in table.get(key, ()) if other is not obj)
    if left:
        table[key] = left
    else:
        table.pop(key, None)
