"""The layout of a pool's memory as its objects hold it: zones in HAPool.status, amounts in HAHost.status, the zone or the list of hosts of
each VM in ProtectedVM.status. Both directions, pure.

The three are written one by one, so a reader may find half of a change, and people may edit a status. Nothing here is believed for
that reason: the planner proves again what it finds. What cannot be a layout at all is no layout.
"""

from collections.abc import Iterable, Mapping
from itertools import pairwise

from quorate_api.hapool import PlanZone
from quorate_controller.kube import Json
from quorate_controller.membership import named_vm
from quorate_controller.memory import dig
from quorate_controller.observe import Observed
from quorate_core.layout import LaidZone, Layout

ZONES_MOST = 64
BLOCKS_MOST = 64
LIST_MOST = 8
"""What the API's schema takes; a layout beyond that is not stored, so that the plain rule runs."""


Chain = tuple[int, ...] | None
Binding = int | tuple[str, ...]
"""The number of a zone, or a list of hosts."""
Bindings = Mapping[str, Mapping[str, Binding]]
"""By pool and VM."""


def stored(observed: Observed, bound: Bindings | None = None) -> dict[str, Layout]:
    """The layouts by pool. A pool without zones has none. `bound` is what the ProtectedVMs say, where it is known already."""
    chains = {obj["metadata"]["name"]: _chains(obj) for obj in observed.hapools}
    memory: dict[str, list[dict[str, int]]] = {pool: [{} for _ in found] for pool, found in chains.items() if found}
    for obj in observed.hahosts:
        zones = memory.get(str(dig(obj, "spec").get("pool")), ())
        for zone, amount in zip(zones, dig(obj, "status").get("zoneBytes") or (), strict=False):
            if isinstance(amount, int) and amount > 0:
                zone[obj["metadata"]["name"]] = amount
    bound = bindings(observed.protectedvms) if bound is None else bound
    layouts = {
        pool: Layout(
            tuple(LaidZone(chain, zone, beside) for (chain, beside), zone in zip(chains[pool] or (), zones, strict=True)),
            {vm: at for vm, at in bound.get(pool, {}).items() if isinstance(at, int)},
        )
        for pool, zones in memory.items()
    }
    for obj in observed.hapools:
        pool = obj["metadata"]["name"]
        if [dig(zone).get("kind") for zone in dig(obj, "status").get("zones") or ()] == ["lists"]:
            layouts[pool] = Layout(lists={vm: hosts for vm, hosts in bound.get(pool, {}).items() if isinstance(hosts, tuple)})
    return layouts


def bindings(protectedvms: Iterable[Json]) -> dict[str, dict[str, Binding]]:
    """The zones that ProtectedVMs say their VMs are bound to, or the hosts where they say that those restart."""
    bound: dict[str, dict[str, Binding]] = {}
    for obj in protectedvms:
        status = dig(obj, "status")
        at, hosts, pool = status.get("zone"), status.get("restartHosts") or (), status.get("pool")
        if not isinstance(pool, str):
            continue
        if hosts and isinstance(hosts, list) and all(isinstance(host, str) for host in hosts):
            bound.setdefault(pool, {})[named_vm(obj)] = tuple(hosts)
        elif isinstance(at, int):
            bound.setdefault(pool, {})[named_vm(obj)] = at
    return bound


def _chains(pool: Json) -> list[tuple[Chain, Chain]] | None:
    """The blocks of each zone, and the hugepages beside them."""
    found: list[tuple[Chain, Chain]] = []
    for zone in dig(pool, "status").get("zones") or ():
        if dig(zone).get("kind") == "any":
            found.append((None, None))
            continue
        blocks = dig(zone).get("blocks") or ()
        whole = all(isinstance(block, int) and block > 0 for block in blocks)
        if not blocks or not whole or any(large <= small or large % small for small, large in pairwise(blocks)):
            return None
        beside = dig(zone).get("hugepages") or None
        if beside is not None:
            whole = len(beside) == len(blocks) and all(isinstance(pages, int) and pages > 0 for pages in beside)
            if not whole or any(pages * blocks[0] != beside[0] * block for pages, block in zip(beside, blocks, strict=True)):
                return None
        found.append((tuple(blocks), None if beside is None else tuple(beside)))
    return found


def zones_of(layout: Layout | None) -> list[PlanZone]:
    """The zones for HAPool.status; none where there is no layout or one too large to store."""
    if layout is None or not storable(layout):
        return []
    if layout.lists:
        return [PlanZone(kind="lists")]
    return [
        PlanZone(kind="any")
        if zone.chain is None
        else PlanZone(kind="chain", blocks=list(zone.chain), hugepages=list(zone.hugepages or ()))
        for zone in layout.zones
    ]


def bytes_of(layout: Layout | None, host: str) -> list[int]:
    """The amounts for HAHost.status."""
    if layout is None or not storable(layout):
        return []
    return [zone.memory.get(host, 0) for zone in layout.zones]


def zone_of(layout: Layout | None, vm: str) -> int | None:
    """The zone for ProtectedVM.status."""
    return layout.bind.get(vm) if layout is not None and storable(layout) else None


def restart_hosts_of(layout: Layout | None, vm: str) -> list[str]:
    """The list of hosts for ProtectedVM.status."""
    return list(layout.lists.get(vm, ())) if layout is not None and storable(layout) else []


def storable(layout: Layout) -> bool:
    """Whether the API's schema takes it."""
    if any(len(hosts) > LIST_MOST for hosts in layout.lists.values()):
        return False
    return len(layout.zones) <= ZONES_MOST and all(len(zone.chain or ()) <= BLOCKS_MOST for zone in layout.zones)
