"""Hypothetical changes of a pool: what a what-if or an admission asks about. Pure; the real pool is never touched."""

from dataclasses import dataclass, replace
from typing import assert_never

from quorate_core.facts import Host, Protection, Snapshot, Vm


class ChangeError(ValueError):
    """The change names something that is not there, or is already there; the message says which."""


@dataclass(frozen=True, slots=True)
class SetProtection:
    """The VM gets another protection, and another priority if one is given."""

    key: str
    protection: Protection
    priority: int | None = None


@dataclass(frozen=True, slots=True)
class WithoutHost:
    """The host leaves the pool. Its VMs wait to be placed: protected ones must find a place at once, others are no longer counted."""

    host: str


@dataclass(frozen=True, slots=True)
class AddVm:
    """One more VM, on `vm.host` or waiting to be placed."""

    vm: Vm


@dataclass(frozen=True, slots=True)
class RemoveVm:
    """The VM is deleted, or stopped for good."""

    key: str


@dataclass(frozen=True, slots=True)
class GrowVm:
    """The VM's launcher pod requests so many bytes from now on (fewer is allowed); hugepages as before unless they are given."""

    key: str
    size_bytes: int
    hugepages_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class MoveVm:
    """The VM runs on that host instead, once its migration is complete."""

    key: str
    host: str


Change = SetProtection | WithoutHost | AddVm | RemoveVm | GrowVm | MoveVm


def apply(snapshot: Snapshot, change: Change) -> Snapshot:
    """The snapshot after the change. Raises `ChangeError` where the VM or host is missing, or the VM is already there."""
    match change:
        case SetProtection(key, protection, priority):
            vm = _vm(snapshot, key)
            changed = replace(vm, protection=protection, priority=vm.priority if priority is None else priority)
            return _with_vm(snapshot, vm, changed)
        case WithoutHost(name):
            _host(snapshot, name)
            waiting = tuple(replace(vm, host=None) if vm.host == name else vm for vm in snapshot.vms)
            return replace(snapshot, hosts=tuple(host for host in snapshot.hosts if host.name != name), vms=waiting)
        case AddVm(vm):
            if snapshot.vm(vm.key) is not None:
                raise ChangeError(f"VM {vm.key} is already there")
            if vm.host is not None:
                _host(snapshot, vm.host)
            return _used(replace(snapshot, vms=(*snapshot.vms, vm)), vm.host, vm.size_bytes, vm.hugepages_bytes)
        case RemoveVm(key):
            vm = _vm(snapshot, key)
            return _used(
                replace(snapshot, vms=tuple(v for v in snapshot.vms if v.key != key)), vm.host, -vm.size_bytes, -vm.hugepages_bytes
            )
        case GrowVm(key, size_bytes, hugepages_bytes):
            vm = _vm(snapshot, key)
            hugepages_bytes = vm.hugepages_bytes if hugepages_bytes is None else hugepages_bytes
            if size_bytes < 0 or hugepages_bytes < 0:
                raise ChangeError(f"VM {key}: memory must not be negative")
            grown = replace(vm, size_bytes=size_bytes, hugepages_bytes=hugepages_bytes)
            return _used(_with_vm(snapshot, vm, grown), vm.host, size_bytes - vm.size_bytes, hugepages_bytes - vm.hugepages_bytes)
        case MoveVm(key, name):
            vm = _vm(snapshot, key)
            _host(snapshot, name)
            moved = _with_vm(snapshot, vm, replace(vm, host=name))
            return _used(_used(moved, vm.host, -vm.size_bytes, -vm.hugepages_bytes), name, vm.size_bytes, vm.hugepages_bytes)
    assert_never(change)


def _vm(snapshot: Snapshot, key: str) -> Vm:
    vm = snapshot.vm(key)
    if vm is None:
        raise ChangeError(f"there is no VM {key} in pool {snapshot.pool.name}")
    return vm


def _host(snapshot: Snapshot, name: str) -> Host:
    host = snapshot.host(name)
    if host is None:
        raise ChangeError(f"there is no host {name} in pool {snapshot.pool.name}")
    return host


def _with_vm(snapshot: Snapshot, old: Vm, new: Vm) -> Snapshot:
    return replace(snapshot, vms=tuple(new if vm is old else vm for vm in snapshot.vms))


def _used(snapshot: Snapshot, name: str | None, more_bytes: int, more_hugepages_bytes: int) -> Snapshot:
    host = None if name is None else snapshot.host(name)
    if host is None:
        return snapshot
    used = max(0, host.used_bytes + more_bytes), max(0, host.used_hugepages_bytes + more_hugepages_bytes)
    changed = replace(host, used_bytes=used[0], used_hugepages_bytes=used[1])
    return replace(snapshot, hosts=tuple(changed if h is host else h for h in snapshot.hosts))
