"""How a pool's memory is set aside for restarts: the part of a plan that is kept while VMs come and go. Data only, decides nothing.

A zone's memory on a host is counted *with* the VMs of the zone that run there, so that it stays the same when one of them starts,
stops, moves or is restarted elsewhere: what is left for restarts is that memory less what those VMs take. So a layout is written
seldom, and whoever reads it beside the present VMs knows the zones as they are now, in the middle of a recovery too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LaidZone:
    """Block sizes in bytes, each a divisor of the next (None: any host with room), and the memory set aside on each host, in bytes.

    VMs of a zone with blocks count with the block that holds them. `hugepages`: each block has so many bytes of them beside its memory.
    """

    chain: tuple[int, ...] | None
    memory: Mapping[str, int]
    hugepages: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    """Zones, and for each protected VM (`namespace/name`) the number of the zone that it restarts in.

    With `lists` there are no zones: each VM restarts on the first living host of its list.
    """

    zones: tuple[LaidZone, ...] = ()
    bind: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, Sequence[str]] = field(default_factory=dict)
