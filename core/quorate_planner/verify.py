"""Is this certificate true? A page of integer arithmetic that shares no code with the search, written to be read by a sceptic.

A certificate cuts the free memory of each host into zones and binds each protected VM to one zone. It claims: whichever k hosts
fail (a failure domain counts as one), in whatever order or at once, every VM of a failed host finds room in its zone, and so do the VMs
that wait now. It is true if:

1. no host's zones together exceed its free memory, or its hugepages;
2. each VM is bound to one zone; if that is a chain zone, the VM may run on every host where it has memory;
3. *chain zone*, blocks D1 | D2 | ... | Dm, memory in whole D1: for every block size D, with `room` = memory // D and `load` = the VMs of
   the zone on that host that need a block of D or larger, counted in D: the k largest (room + load) <= sum of room - load that waits;
   (each block may have hugepages beside it, H1 | H2 | ..., in the ratio of the D: a VM needs a block large enough in both);
4. *any zone*: for every VM in it, of size s, with `room` = max(0, memory - s + 1) on the hosts of the zone that VM may use, and `load` =
   bytes on each host of the zone's VMs that may use one of those: the k largest (room + load) <= sum of room - load that waits + s - 1.

5. *lists zone*: each of its VMs has a list of hosts, and restarts on the first one that lives. For every set of k hosts: each VM on one of
   them, and each that waits, finds a living host on its list where it may run, and what so comes to a host is no more than its memory;
6. VMs that need hugepages are in chain zones. Where VMs that share a label must not share a host: their zones have one block size, a
   host has at most one block in all of these zones together, and none where such a VM runs now.

Why that is enough is proven in `docs/planner.md`.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations, pairwise
from math import comb
from typing import Any

SETS_MOST = 200_000
"""A lists zone with more sets of hosts to look at is refused: nobody waits for it."""


def objections(problem: bytes | str, certificate: bytes | str) -> list[str]:
    """What is wrong with the certificate (JSON) for the problem (JSON), in words; empty means that the claim is proven."""
    try:
        return _objections(json.loads(problem), json.loads(certificate))
    except (ValueError, RecursionError) as error:
        return [f"not JSON: {error}"]
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        return [f"not in the form of a problem and a certificate: {type(error).__name__} {error}"]


def _objections(problem: Mapping[str, Any], certificate: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    free = {host["name"]: _whole(host["free"]) for host in problem["hosts"]}
    group = {host["name"]: ("domain", host["domain"]) if host.get("domain") else ("host", host["name"]) for host in problem["hosts"]}
    vms = {vm["name"]: {**vm, "size": _whole(vm["size"])} for vm in problem["vms"]}
    k, zones, bind = _whole(certificate["k"]), certificate["zones"], certificate["bind"]
    if len(free) != len(problem["hosts"]) or len(vms) != len(problem["vms"]):
        return ["the problem names a host or a VM twice"]
    if not 0 <= k <= len(free):
        return [f"k is {k}, with {len(free)} hosts"]

    for at, zone in enumerate(zones):  # 0. the zones themselves
        for name, memory in zone["z"].items():
            if name not in free or _whole(memory) < 0:
                return [f"zone {at}: {memory} bytes on {name}: no such host, or negative"]
    for name in free:  # 1. memory
        kept = sum(zone["z"].get(name, 0) for zone in zones)
        if kept > free[name]:
            found.append(f"host {name}: its zones keep {kept} bytes, {kept - free[name]} more than it has free")
    pages = {host["name"]: _whole(host.get("hugepages", 0)) for host in problem["hosts"]}
    for at, zone in enumerate(zones):
        if zone.get("H") is None:
            continue
        pairs = [(_whole(block), _whole(beside)) for block, beside in zip(zone["D"], zone["H"], strict=True)]
        if zone["kind"] != "chain" or any(d < 1 or h < 0 or h * pairs[0][0] != pairs[0][1] * d for d, h in pairs):
            return [f"zone {at}: hugepages {zone['H']} are not beside its blocks in one ratio"]
        for name, memory in zone["z"].items():
            pages[name] -= memory // pairs[0][0] * pairs[0][1]
    found += [f"host {name}: its zones keep {-left} bytes of hugepages more than it has" for name, left in pages.items() if left < 0]
    for name in {*vms, *bind}:  # 2. binding
        if name not in vms or name not in bind or not 0 <= _whole(bind[name]) < len(zones):
            found.append(f"VM {name}: unknown, or not bound to a zone")
            continue
        if zones[bind[name]]["kind"] != "chain":
            continue
        carriers = {host for host, memory in zones[bind[name]]["z"].items() if memory > 0}
        allowed = vms[name].get("allowed")
        if allowed is not None and not carriers <= set(allowed):
            found.append(f"VM {name}: its zone has memory on {min(carriers - set(allowed))}, where it may not run")
    if found:
        return found

    def check(
        members: Iterable[Mapping[str, Any]], what: str, room: Mapping[str, int], load: Callable[[Mapping[str, Any]], int], more: int
    ) -> None:
        value: dict[Any, int] = {}
        waits = 0
        for name, memory in room.items():
            value[group[name]] = value.get(group[name], 0) + memory
        for vm in members:
            if vm.get("host") is None:
                waits += load(vm)
            else:
                value[group[vm["host"]]] += load(vm)
        worst, budget = sum(sorted(value.values(), reverse=True)[:k]), sum(room.values()) - waits + more
        if worst > budget:
            found.append(f"{what}: {k} failures can cost {worst}, {budget} is there")

    for at, zone in enumerate(zones):
        members = [vm for name, vm in vms.items() if bind[name] == at]
        kept = {name: zone["z"].get(name, 0) for name in free}
        if zone["kind"] == "chain":  # 3.
            blocks = [_whole(block) for block in zone["D"]]
            beside = zone.get("H") or [0] * len(blocks)
            if not blocks or blocks[0] < 1 or any(large <= small or large % small for small, large in pairwise(blocks)):
                found.append(f"zone {at}: {blocks} is not a chain of sizes that rise and divide each other")
            elif any(memory % blocks[0] for memory in kept.values()):
                found.append(f"zone {at}: its memory is not in whole blocks of {blocks[0]} bytes")
            elif any(vm["size"] > blocks[-1] or _pages(vm) > beside[-1] for vm in members):
                found.append(f"zone {at}: a VM is larger than its largest block")
            else:
                needs = {
                    vm["name"]: next(d for d, h in zip(blocks, beside, strict=True) if d >= vm["size"] and h >= _pages(vm))
                    for vm in members
                }
                for block in blocks:

                    def in_blocks(vm: Mapping[str, Any], block: int = block, needs: Mapping[str, int] = needs) -> int:
                        return needs[vm["name"]] // block if needs[vm["name"]] >= block else 0

                    room = {name: memory // block for name, memory in kept.items()}
                    check(members, f"zone {at}, blocks of {block} bytes", room, in_blocks, 0)
        elif zone["kind"] == "any":  # 4.
            used = frozenset(name for name, memory in kept.items() if memory > 0)
            may = {vm["name"]: used if vm.get("allowed") is None else used & set(vm["allowed"]) for vm in members}
            for hosts, size in sorted({(may[vm["name"]], vm["size"]) for vm in members}, key=lambda pair: (pair[1], sorted(pair[0]))):
                room = {name: max(0, kept[name] - size + 1) if name in hosts else 0 for name in free}
                rivals = [vm for vm in members if may[vm["name"]] & hosts or may[vm["name"]] == hosts]  # itself, even if it may use none
                check(rivals, f"zone {at}, VMs of {size} bytes", room, lambda vm: int(vm["size"]), size - 1)
        elif zone["kind"] == "lists":  # 5.
            found += _listed(f"zone {at}", members, certificate["lists"], kept, group, k)
        else:
            found.append(f"zone {at}: there is no kind {zone['kind']!r}")
    return found + list(_apart(problem, zones, bind))


def _listed(
    what: str,
    members: Sequence[Mapping[str, Any]],
    lists: Mapping[str, Sequence[str]],
    kept: Mapping[str, int],
    group: Mapping[str, Any],
    k: int,
) -> Iterator[str]:
    """5. Every set of hosts that may fail, played. Fewer than k failures bring no host more than k do, so they need not be played."""
    ways = []
    for vm in members:
        here, may = vm.get("host"), vm.get("allowed")
        hosts = [host for host in lists.get(vm["name"], ()) if host in kept and host != here and (may is None or host in may)]
        ways.append((None if here is None else group[here], hosts, vm))
    groups = sorted(set(group.values()))
    if comb(len(groups), k) > SETS_MOST:
        yield f"{what}: {comb(len(groups), k)} sets of hosts are more than are looked at"
        return
    for failed in combinations(groups, k):
        comes = dict.fromkeys(kept, 0)
        for home, hosts, vm in ways:
            if home is None or home in failed:
                target = next((host for host in hosts if group[host] not in failed), None)
                if target is None:
                    yield f"{what}: with {', '.join(name for _, name in failed)} failed, VM {vm['name']} has no host left on its list"
                    return
                comes[target] += vm["size"]
        for name, amount in comes.items():
            if amount > kept[name]:
                yield f"{what}: with {', '.join(at for _, at in failed)} failed, {amount} bytes come to {name}, {kept[name]} are there"
                return


def _apart(problem: Mapping[str, Any], zones: Sequence[Mapping[str, Any]], bind: Mapping[str, int]) -> Iterator[str]:
    """6. VMs with hugepages, and VMs that must not share a host."""
    members: dict[str, list[Mapping[str, Any]]] = {}
    for vm in problem["vms"]:
        if _pages(vm) and zones[bind[vm["name"]]]["kind"] != "chain":
            yield f"VM {vm['name']}: needs hugepages, and its zone has none"
        for label in set(vm.get("apart", ())):
            members.setdefault(label, []).append(vm)
    for label, vms in members.items():
        if len(vms) == 1:
            continue
        running = {vm["host"] for vm in vms}
        blocks: dict[str, int] = {}
        for zone in [zones[at] for at in sorted({bind[vm["name"]] for vm in vms})]:
            if zone["kind"] != "chain" or len(zone["D"]) != 1:
                yield f"label {label}: one of its zones does not have exactly one block size"
                break
            for name, memory in zone["z"].items():
                blocks[name] = blocks.get(name, 0) + memory // zone["D"][0]
        for name, number in blocks.items():
            if number > (0 if name in running else 1):
                yield f"label {label}: its zones have {number} blocks on {name}" + (
                    ", where one of its VMs runs" if name in running else ""
                )


def _pages(vm: Mapping[str, Any]) -> int:
    return _whole(vm.get("hugepages", 0))


def _whole(number: Any) -> int:
    if not isinstance(number, int) or isinstance(number, bool):
        raise TypeError(f"{number!r} is not a whole number")
    return number
