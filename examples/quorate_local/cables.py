"""Cuts in the network of a local pool: which host no longer hears which other, in both directions or in one, and the healing.

A packet is dropped where it arrives, by a routing rule in the receiving host's own network namespace: its sender notices nothing, one
direction can be cut alone, and iproute2 is all it takes. What is cut is a file in the run's folder, so a host that boots takes it over,
and another process than the pool's owner can cut and heal. Nothing outside of the hosts' namespaces is touched.
"""

import contextlib
import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import Any

from quorate_local import runs
from quorate_local.problem import Problem

API = "api"
"""The name under which the API server can be cut off from a host."""
PREFERENCE = 10
"""Of the rules that drop. They come before the one for local addresses, which is moved to 100."""

Cut = tuple[str, str]
"""Sender and receiver: the receiver hears nothing from the sender."""


def between(groups: Sequence[Collection[str]]) -> frozenset[Cut]:
    """Cuts in both directions between every two of the groups. Raises Problem for a host in two of them, or fewer than two groups."""
    named = [name for group in groups for name in group]
    if len(groups) < 2 or not all(groups):
        raise Problem("a split needs at least two groups of hosts, none of them empty.")
    if twice := sorted({name for name in named if named.count(name) > 1}):
        raise Problem(f"a host can only be on one side of a split: {', '.join(twice)}.")
    return frozenset(cut for one, other in permutations(groups, 2) for cut in product(one, other))


def dropped(host: str, cuts: Collection[Cut], addresses: Mapping[str, str]) -> frozenset[str]:
    """What a host drops, in the words of `ip rule`.

    The API server has no rules of its own: what a host sends to it is dropped on the host.
    """
    arriving = {f"from {addresses[sender]}" for sender, receiver in cuts if receiver == host and sender in addresses}
    leaving = {f"to {addresses[API]}" for cut in cuts if cut == (host, API)}
    return frozenset(arriving | leaving)


def changes(present: Sequence[Mapping[str, Any]], wanted: Collection[str]) -> list[str]:
    """The `ip` commands that turn the rules that are there (`ip -json rule`) into the wanted ones."""
    there = {f"from {rule['src']}" if "dst" not in rule else f"to {rule['dst']}" for rule in present if rule.get("priority") == PREFERENCE}
    commands = [f"rule del pref {PREFERENCE} {rule} blackhole" for rule in sorted(there - set(wanted))]
    commands += [f"rule add pref {PREFERENCE} {rule} blackhole" for rule in sorted(set(wanted) - there)]
    if any(rule.get("priority") == 0 for rule in present):
        commands = ["rule add pref 100 lookup local", "rule del pref 0", *commands]
    return commands


class Cables:
    """The network between the hosts of one run, whoever owns it."""

    def __init__(self, run: str, folder: Path, api_address: str) -> None:
        self._run = run
        self._folder = folder
        self._api_address = api_address

    def split(self, *groups: Collection[str]) -> None:
        """Cut every group off from every other, at once for each host. Hosts in no group still hear everybody. Raises Problem."""
        self._change(lambda cuts: cuts | between(groups))

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Cut between two hosts, or a host and `api`. `one_way`: only what `one` sends to `other`. Raises Problem."""
        self._change(lambda cuts: cuts | {(one, other), (one, other) if one_way else (other, one)})

    def heal(self) -> None:
        """Undo every cut. Raises Problem."""
        self._change(lambda cuts: frozenset())

    def cuts(self) -> frozenset[Cut]:
        """What is cut now."""
        try:
            return frozenset((sender, receiver) for sender, receiver in json.loads(self._file.read_text()))
        except FileNotFoundError:
            return frozenset()

    def plug_in(self, host: str, init_pid: int) -> None:
        """Give a host that boots the cuts of now. Raises Problem."""
        with self._locked():
            self._apply(host, init_pid, self.cuts(), self._addresses())

    @property
    def _file(self) -> Path:
        return self._folder / "cuts.json"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """One change or one boot at a time, over all processes: else a host could boot past a cut."""
        fd = os.open(self._folder / "cuts.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _change(self, change: Callable[[frozenset[Cut]], frozenset[Cut]]) -> None:
        with self._locked():
            addresses = self._addresses()
            wanted = change(self.cuts())
            if unknown := sorted({name for cut in wanted for name in cut} - addresses.keys()):
                raise Problem(f"no such host: {', '.join(unknown)}. There are: {', '.join(sorted(addresses))}.")
            fresh = self._file.with_suffix(".new")
            fresh.write_text(json.dumps(sorted(wanted)))
            fresh.replace(self._file)
            for host in addresses.keys() - {API}:
                if pid := self._init_pid(host):
                    self._apply(host, pid, wanted, addresses)

    def _addresses(self) -> dict[str, str]:
        """Of every host that has ever booted, and of the API server as hosts see it. Raises Problem where hosts have no network."""
        found = {path.parent.name: json.loads(path.read_text())["address"] for path in self._folder.glob("hosts/*/machine.json")}
        if None in found.values():
            raise Problem("hosts share the loopback network here: their network can be cut only as root, where each has its own.")
        return {**found, API: self._api_address}

    def _init_pid(self, host: str) -> int | None:
        """The first process of the host's PID namespace as this machine numbers it; None while it is off."""
        for pid in runs.marked(runs.HOST_MARK, f"{self._run}.{host}"):
            with contextlib.suppress(OSError):
                status = Path(f"/proc/{pid}/status").read_text()
                numbers = next(line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:"))
                if len(numbers) > 1 and numbers[-1] == "1":
                    return pid
        return None

    def _apply(self, host: str, pid: int, cuts: Collection[Cut], addresses: Mapping[str, str]) -> None:
        present = json.loads(_ip(pid, ["-json", "rule"]) or "[]")
        commands = changes(present, dropped(host, cuts, addresses))
        if commands:
            _ip(pid, ["-batch", "-"], "\n".join(commands) + "\n")


def _ip(pid: int, arguments: list[str], batch: str = "") -> str:
    command = ["nsenter", "-t", str(pid), "-n", "ip", *arguments]
    try:
        done = subprocess.run(command, input=batch, capture_output=True, text=True, check=False, timeout=20)
    except OSError as error:
        raise Problem(f"cannot run nsenter ({error.strerror}): install util-linux.") from None
    if done.returncode and Path(f"/proc/{pid}").exists():  # else the host has just lost its power
        raise Problem(f"`ip {' '.join(arguments)} {batch.strip()}` failed: {done.stderr.strip()}: are iproute2 and policy routing there?")
    return done.stdout
