"""Tolerance planner: where VMs restart after host failures. Pure: no clock, no I/O, no Kubernetes."""

from collections.abc import Sequence

from quorate_core.facts import Snapshot
from quorate_planner.certificate import Certificate, Zone, certificate_json, follow
from quorate_planner.change import AddVm, Change, ChangeError, GrowVm, MoveVm, RemoveVm, SetProtection, WithoutHost, apply
from quorate_planner.facts import planned, problem_of
from quorate_planner.incremental import Answer, Judgement, best_layout, mended, plain, prove, start
from quorate_planner.laid import layout_of
from quorate_planner.planning import Plan, holds, plan, plan_problem, start_hosts, started, usable_for
from quorate_planner.problem import Problem, ProblemError, ProblemHost, ProblemVm, load
from quorate_planner.proof import Proof
from quorate_planner.report import plan_json
from quorate_planner.sharp import Budget, Sharp, sharpen
from quorate_planner.targets import restart_targets
from quorate_planner.verify import objections
from quorate_planner.witness import Witness

__all__ = [
    "AddVm",
    "Answer",
    "Budget",
    "Certificate",
    "Change",
    "ChangeError",
    "GrowVm",
    "Judgement",
    "MoveVm",
    "Plan",
    "Problem",
    "ProblemError",
    "ProblemHost",
    "ProblemVm",
    "Proof",
    "RemoveVm",
    "SetProtection",
    "Sharp",
    "WithoutHost",
    "Witness",
    "Zone",
    "apply",
    "best_layout",
    "certificate_json",
    "follow",
    "holds",
    "layout_of",
    "load",
    "mended",
    "objections",
    "plain",
    "plan",
    "plan_json",
    "plan_problem",
    "planned",
    "problem_of",
    "prove",
    "restart_targets",
    "sharpen",
    "start",
    "start_hosts",
    "started",
    "usable_for",
    "what_if",
]


def what_if(snapshot: Snapshot, changes: Sequence[Change]) -> Plan:
    """The plan of the pool after the changes, in their order. Raises `ChangeError`."""
    for change in changes:
        snapshot = apply(snapshot, change)
    return plan(snapshot)
