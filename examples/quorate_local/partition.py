"""The demo's network split: storage is fine, the network is cut in two; the larger part lives, the other is evicted, fenced, and returns.

Which side lives is Quorate's decision, not the demo's: the demo says beforehand what the rule demands, and checks it against the disks.
"""

import time
from collections.abc import Mapping, Sequence

from quorate_core.facts import CertificateKind
from quorate_local import guests, restarted, seen, workload
from quorate_local.problem import Problem
from quorate_local.stage import Failed, Stage

Sides = tuple[frozenset[str], ...]


def parse(text: str, hosts: int) -> tuple[tuple[int, ...], ...]:
    """The splits that `--split` names, each as the sizes of its sides. Raises Problem.

    `3:1`, `2:2` or any other that adds up to the hosts; `both` for one host against the rest, then halves; `none`.
    """
    if text == "none":
        return ()
    if text == "one":
        return ((hosts - 1, 1),)
    if text == "both":
        return ((hosts - 1, 1), (hosts - hosts // 2, hosts // 2))
    try:
        sizes = tuple(int(part) for part in text.split(":"))
    except ValueError:
        sizes = ()
    if len(sizes) < 2 or min(sizes) < 1 or sum(sizes) != hosts:
        raise Problem(
            f"--split {text}: give `both`, `one`, `none`, or the sizes of two or more sides that add up to {hosts} hosts, "
            f"such as {hosts - 1}:1."
        )
    return (sizes,)


def most_lost(splits: Sequence[Sequence[int]]) -> int:
    """How many hosts the worst of these splits evicts."""
    return max((sum(sizes) - max(sizes) for sizes in splits), default=0)


def divide(sizes: Sequence[int], slots: Mapping[str, int], busiest: Sequence[str]) -> Sides:
    """Sides of those sizes, the one that lives first. The others are made of the busiest hosts, so that the split has something to show."""
    ordered = sorted(sizes, reverse=True)
    tie = ordered.count(ordered[0]) > 1
    kept = min(slots, key=lambda host: slots[host]) if tie else None
    candidates = [host for host in busiest if host != kept]
    sides = []
    for size in ordered[1:]:
        sides.append(frozenset(candidates[:size]))
        del candidates[:size]
    return (frozenset(slots) - frozenset().union(*sides), *sides)


def why(sides: Sides, slots: Mapping[str, int]) -> str:
    """The rule that decides between these sides, in words."""
    first = f"{_names(sides[0])} live on"
    if len(sides[0]) > max(len(side) for side in sides[1:]):
        return f"{first}: the largest set of hosts that all hear each other"
    lowest = min(sides[0], key=lambda host: slots[host])
    return f"{first}: of equally large sides the one with the lowest slot, {slots[lowest]} ({lowest})"


def split_network(stage: Stage, vms: dict[str, workload.DemoVm], sizes: Sequence[int], failures: int) -> None:
    """Cut, see one side live and the other end, see its VMs restart, heal, see it return."""
    local, act = stage.local, f"split {':'.join(map(str, sizes))}"
    stage.step(f"The pool is whole again: the next failure, a network split {':'.join(map(str, sizes))}")
    stage.until("a plan exists and every protected VM has its planned host", lambda: seen.has_plan(local, failures), 120)
    slots = {name: int(seen.text_of(host, "status", "slot")) for name, host in seen.hahosts(local).items()}
    sides = divide(sizes, slots, [host.name for host in seen.busiest_hosts(local)])
    living, lost = sides[0], frozenset().union(*sides[1:])
    before = seen.incarnations(local)
    lives = {host: before[host] for host in lost}
    planned = seen.planned(local, set(lost))
    local.rack.reboot_after_seconds = None  # a server takes minutes to boot; here it does when it is told
    stage.note("the heartbeat disk and the API server stay within everybody's reach: to Kubernetes, all hosts are fine")
    stage.note(f"who is to live: {why(sides, slots)}")
    cut_at = time.monotonic()
    stage.run("quorate-local", "split", local.run.name, *(",".join(sorted(side)) for side in sides))
    stage.until(f"{_names(lost)} evicted: a record on the heartbeat disk", lambda: seen.evicted(local, lives), 60)
    evicted_seconds = time.monotonic() - cut_at
    stage.until(f"no VM is left on {_names(lost)}", lambda: not any(_guests(stage, host) for host in lost), 60)
    stopped_seconds = time.monotonic() - cut_at
    stage.until("certified dead", lambda: all(seen.certificate(local, host, life) for host, life in lives.items()), 120)
    stage.checked(
        f"{act}: one side lives",
        f"{_names(living)}; the rest evicted after {evicted_seconds:.0f} s, without VMs after {stopped_seconds:.0f} s",
    )
    _check_certificates(stage, act, lives)
    stage.until("every protected VM runs again", lambda: planned.keys() <= seen.elsewhere(local, set(lost)), 120)
    stage.until("the failover is complete", lambda: seen.recovered(local, lives), 120)
    stage.run("kubectl", "get", "failovers")
    restarted.show(stage, act, restarted.read(stage, lives, planned, vms, cut_at), set(lost))
    stage.until(f"the watchdog has reset {_names(lost)}", lambda: lost <= {name for at, name in local.rack.resets if at > cut_at}, 60)
    after = seen.incarnations(local)
    if hurt := [host for host in living if after[host] != before[host]]:
        raise Failed(f"a host of the side that lives has lost its life: {', '.join(sorted(hurt))}")
    stage.step(f"{_names(lost)} boot{'s' * (len(lost) == 1)} again while the network is still cut")
    for host in lost:
        local.rack.hosts[host].power_on()
    stage.until("the agent there is back", lambda: all(seen.incarnations(local)[h] not in ("", lives[h]) for h in lost), 120)
    stage.run("kubectl", "get", "hahosts")
    if early := [host for host in lost if _guests(stage, host) or seen.is_back(local, host)]:
        raise Failed(f"back in the pool, or with VMs, while the network is still cut: {', '.join(sorted(early))}")
    stage.note("it stays out, and without VMs, while it does not hear the others; now the network is repaired")
    stage.run("quorate-local", "heal", local.run.name)
    stage.until(f"{_names(lost)} Live again, taint gone", lambda: all(seen.is_back(local, host) for host in lost), 180)
    stage.run("kubectl", "get", "hapools,hahosts")
    stage.checked(f"{act}: the evicted returned", f"{_names(lost)} with a new boot id and incarnation")


def _check_certificates(stage: Stage, act: str, lives: dict[str, str]) -> None:
    figures = []
    for host, life in sorted(lives.items()):
        found = seen.certificate(stage.local, host, life)
        kind, waited, bound = seen.text_of(found, "kind"), float(str(found["silentSeconds"])), float(str(found["boundSeconds"]))
        stage.note(f"certificate: {seen.text_of(found, 'evidence')}")
        if kind not in (CertificateKind.EVICTION, CertificateKind.CONFIRMED):
            raise Failed(f"{host} was certified dead by {kind}, not by its eviction")
        if waited < bound:
            raise Failed(f"the certificate of {host} was issued after {waited:.1f} s, before the bound of {bound:.1f} s")
        meaning = "stopped by its own word" if kind == CertificateKind.CONFIRMED else "R_e"
        figures.append(f"{host}: {kind}, {waited:.1f} s, bound {bound:.1f} s ({meaning})")
    stage.checked(f"{act}: evicted first, then certified", "; ".join(figures))


def _guests(stage: Stage, host: str) -> list[int]:
    return stage.local.rack.hosts[host].pids(str(guests.LAUNCHER))


def _names(side: frozenset[str]) -> str:
    return ", ".join(sorted(side))
