"""A plan as JSON: the one form that the command line, benchmarks and other programs read. Names and order are an API."""

from typing import Any

from quorate_planner.planning import Plan


def plan_json(plan: Plan, elapsed_seconds: float) -> dict[str, Any]:
    """The plan in the form of `quorate plan -o json`, for one pool."""
    witness = plan.witness
    return {
        "pool": plan.pool,
        "hosts": plan.hosts,
        "protectedVMs": plan.protected_vms,
        "hostFailuresToTolerate": plan.host_failures_to_tolerate,
        "planExists": plan.plan_exists,
        "overcommitted": plan.overcommitted,
        "maxHostFailuresToTolerate": {"lower": plan.lower, "upper": plan.upper, "exact": plan.exact},
        "witness": None
        if witness is None
        else {"failedHosts": list(witness.failed_hosts), "unplaceable": list(witness.unplaceable), "reason": witness.reason},
        "placements": {host: dict(sorted(targets.items())) for host, targets in sorted(plan.placements.items())},
        "elapsedSeconds": round(elapsed_seconds, 6),
    }
