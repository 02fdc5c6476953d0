"""A pool as its agents know it: members, slots, timing; and the hash by which they make sure that they agree on it.

Addresses and the key are the shell's; they do not decide anything here. No membership is ever taken from the disk or the network.
"""

import hashlib
from dataclasses import dataclass

from quorate_core import timing

MAX_SLOTS = 64
MAX_WEIGHT = 65535
MAX_DISKS = 3
MAX_DISKS_GENERATION = 65535


@dataclass(frozen=True, slots=True)
class Member:
    """A host of the pool. An excluded one (in maintenance) is not waited for and does not arm. `weight` counts before the number of hosts
    when a partition decides who lives."""

    slot: int
    host: str
    excluded: bool = False
    weight: int = 0


@dataclass(frozen=True, slots=True)
class PoolConfig:
    """The pool's configuration; `disks` names its heartbeat disks, in an order that is the same for all, and `disks_generation` counts how
    often they were changed: the same disks a second time hold what is left of the first. Raises ValueError, naming the field, for one that
    contradicts itself."""

    pool_id: bytes
    members: tuple[Member, ...]
    timing: timing.Timing
    enabled: bool = True
    disabled_reason: str = ""
    disks: tuple[str, ...] = ("",)
    disks_generation: int = 0

    def __post_init__(self) -> None:
        if len(self.pool_id) != 16 or not any(self.pool_id):
            raise ValueError("pool id: 16 bytes, not all zero, are needed")
        if not 1 <= len(self.disks) <= MAX_DISKS:
            raise ValueError(f"disks: a pool has 1 to {MAX_DISKS} heartbeat disks, not {len(self.disks)}")
        if not 0 <= self.disks_generation <= MAX_DISKS_GENERATION:
            raise ValueError(f"disks generation: {self.disks_generation} is not within 0..{MAX_DISKS_GENERATION}")
        for member in self.members:
            if not 0 <= member.slot < MAX_SLOTS:
                raise ValueError(f"member {member.host}: slot {member.slot} is not within 0..{MAX_SLOTS - 1}")
            if not 0 <= member.weight <= MAX_WEIGHT:
                raise ValueError(f"member {member.host}: weight {member.weight} is not within 0..{MAX_WEIGHT}")
            if not 0 < len(member.host.encode()) <= 253:
                raise ValueError(f"member of slot {member.slot}: a host name has 1 to 253 bytes")
        for what, values in (("slot", [m.slot for m in self.members]), ("host", [m.host for m in self.members])):
            if len(set(values)) != len(values):
                raise ValueError(f"members: a {what} appears twice")

    def member_of(self, host: str) -> Member | None:
        """The member of that name, or None."""
        return next((m for m in self.members if m.host == host), None)

    def member_at(self, slot: int) -> Member | None:
        """The member that owns that slot, or None."""
        return next((m for m in self.members if m.slot == slot), None)

    @property
    def required(self) -> int:
        """The slots of those who take part; one bit each."""
        return sum(1 << m.slot for m in self.members if not m.excluded)

    @property
    def disks_digest(self) -> int:
        """Tells one set of heartbeat disks, and one time that it is used, from another: the generation, and 16 bits of a hash of their
        names; never 0."""
        return self.disks_generation << 16 | (int.from_bytes(hashlib.sha256("\n".join(self.disks).encode()).digest()[:2]) or 1)

    @property
    def hash(self) -> bytes:
        """SHA-256 of everything that hosts must agree on before they arm; 32 bytes."""
        lines = [
            self.pool_id.hex(),
            f"{self.timing.licence_seconds:.3f} {self.timing.watchdog_seconds:.3f}",
            str(self.disks_generation),
            *self.disks,
        ]
        lines += [f"{m.slot} {int(m.excluded)} {m.host}" for m in sorted(self.members, key=lambda m: m.slot)]
        return hashlib.sha256("\n".join(lines).encode()).digest()
