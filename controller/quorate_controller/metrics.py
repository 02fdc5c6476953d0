"""Prometheus metrics: names and units in one place. Labels are pools and hosts, never VMs."""

from collections.abc import Iterable, Mapping

from prometheus_client import Counter, Gauge, Histogram

from quorate_api.hahost import HAHost
from quorate_core.facts import HostPhase, Snapshot
from quorate_planner import Plan

leading = Gauge("quorate_leader", "1 while this replica leads")
turns = Counter("quorate_turns", "Turns of the leader's loop", ["result"])
turn_seconds = Histogram("quorate_turn_seconds", "Duration of a turn", buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30))
plan_seconds = Histogram("quorate_plan_seconds", "Duration of planning all pools", buckets=(0.001, 0.01, 0.05, 0.1, 0.5, 1, 5))
writes = Counter("quorate_writes", "Writes of statuses and of Quorate's own objects", ["kind", "result"])

_wish = Gauge("quorate_pool_host_failures_to_tolerate", "The wish", ["pool"])
_lower = Gauge("quorate_pool_max_host_failures_lower", "Host failures that are proven to be tolerated", ["pool"])
_upper = Gauge("quorate_pool_max_host_failures_upper", "No plan can exist for more", ["pool"])
_overcommitted = Gauge("quorate_pool_overcommitted", "1 while the wish cannot be met", ["pool"])
_protected = Gauge("quorate_pool_protected_vms", "VMs protected with a guarantee", ["pool"])
_free = Gauge("quorate_host_free_bytes", "Memory that new VMs may still take", ["pool", "host"])
_phase = Gauge("quorate_host_phase", "1 for the phase a host is in", ["pool", "host", "phase"])
_ALL = (_wish, _lower, _upper, _overcommitted, _protected, _free, _phase)


def publish(snapshots: Mapping[str, Snapshot], plans: Mapping[str, Plan], hahosts: Iterable[HAHost]) -> None:
    """Replace what is said of pools and hosts; those that are gone disappear."""
    for gauge in _ALL:
        gauge.clear()
    for name, plan in plans.items():
        _wish.labels(name).set(plan.host_failures_to_tolerate)
        _lower.labels(name).set(plan.lower)
        _upper.labels(name).set(plan.upper)
        _overcommitted.labels(name).set(plan.overcommitted)
        _protected.labels(name).set(plan.protected_vms)
    for name, snapshot in snapshots.items():
        for host in snapshot.hosts:
            _free.labels(name, host.name).set(host.free_bytes)
    for hahost in hahosts:
        for phase in HostPhase:
            _phase.labels(hahost.spec.pool, hahost.metadata.name, phase.value).set(hahost.status.phase == phase)
