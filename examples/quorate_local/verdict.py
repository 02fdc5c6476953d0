"""Did any VM ever run twice? Answered from the VM disks alone.

Every launcher appends `host incarnation sequence monotonic_ns` to its disk (`launcher`). The hosts of the local pool share one kernel,
hence one monotonic clock. Two incarnations of one VM must not overlap: the last line of one comes before the first line of the next.
This module trusts no controller, no log and no status.
"""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Run:
    """One life of a VM on one host, from its first to its last written line (monotonic seconds)."""

    host: str
    incarnation: str
    first_seconds: float
    last_seconds: float
    lines: int


@dataclass(frozen=True, slots=True)
class DiskHistory:
    """What one VM disk tells: its runs in order, and every sign that two ran at once."""

    disk: str
    runs: tuple[Run, ...]
    conflicts: tuple[str, ...]


def read_disk(disk: str, text: str) -> DiskHistory:
    """The history in a disk's text. A line that does not parse is a conflict: two writers may have torn it.

    A last line without its newline is the write that a kill cut short, and is left out.
    """
    conflicts: list[str] = []
    seen: dict[str, list[tuple[str, int, float]]] = {}
    order: list[str] = []
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        fields = line.split(" ")
        try:
            host, incarnation, sequence, seconds = fields[0], fields[1], int(fields[2]), int(fields[3]) * 1e-9
        except (IndexError, ValueError):
            conflicts.append(f"line {number} is torn: {line[:80]!r}")
            continue
        seen.setdefault(incarnation, []).append((host, sequence, seconds))
        if not order or order[-1] != incarnation:
            if incarnation in order:
                conflicts.append(f"line {number}: {incarnation} on {host} writes again after {order[-1]} had begun")
            order.append(incarnation)
    runs = []
    for incarnation, lines in seen.items():
        hosts = {host for host, _, _ in lines}
        if len(hosts) > 1:
            conflicts.append(f"{incarnation} wrote from several hosts: {', '.join(sorted(hosts))}")
        sequences = [sequence for _, sequence, _ in lines]
        if sequences != list(range(len(sequences))):
            conflicts.append(f"{incarnation}: its lines are not numbered 0 to {len(sequences) - 1}: lines are lost or doubled")
        times = [seconds for _, _, seconds in lines]
        runs.append(Run(lines[0][0], incarnation, min(times), max(times), len(lines)))
    runs.sort(key=lambda run: run.first_seconds)
    for earlier, later in itertools.pairwise(runs):
        if later.first_seconds <= earlier.last_seconds:
            overlap = earlier.last_seconds - later.first_seconds
            conflicts.append(
                f"ran twice for {overlap:.1f} s: {earlier.incarnation} on {earlier.host} and {later.incarnation} on {later.host}"
            )
    return DiskHistory(disk, tuple(runs), tuple(conflicts))


def read_disks(paths: Iterable[Path]) -> tuple[DiskHistory, ...]:
    """The histories of these disk files, by name."""
    return tuple(read_disk(path.stem, path.read_text(errors="replace")) for path in sorted(paths))
