"""From certificate to running VM: detects certified deaths, advances their failovers, acts on the cluster."""

from quorate_controller.failover.advance import advance
from quorate_controller.failover.certificates import judge

__all__ = ["advance", "judge"]
