"""One turn of the leader's loop: what a turn's workers are given, and what they hand back.

Data only, so that the loop and the failover workflow know this file and not each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from quorate_controller.kube import Json, Kube
from quorate_controller.observe import Observed
from quorate_core.facts import Snapshot
from quorate_planner import Plan

EventType = Literal["Normal", "Warning"]


class Tell(Protocol):
    """Publishes a Kubernetes Event about an object; rate-limited, never raises."""

    def __call__(self, involved: Json, reason: str, message: str, type: EventType = "Normal") -> None: ...


@dataclass(frozen=True, slots=True)
class Turn:
    """Everything one turn may know. `now` is wall-clock time for people; `monotonic_seconds` is for durations."""

    kube: Kube
    observed: Observed
    snapshots: Mapping[str, Snapshot]
    plans: Mapping[str, Plan]
    now: datetime
    monotonic_seconds: float
    tell: Tell
    namespace: str = "quorate-system"


@dataclass(frozen=True, slots=True)
class FailoverSummary:
    """What the failover workflow says of this turn: the pools in which VMs are being restarted."""

    recovering: frozenset[str] = field(default=frozenset())
