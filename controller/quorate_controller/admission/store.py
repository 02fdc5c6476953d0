"""Where the ledger lives: one ConfigMap per pool, changed by compare-and-swap only. And the reaper that empties it again.

The order of reading matters: the ledger FIRST, then the cluster. An entry leaves the ledger only after its change is visible, so
whoever does not find it in the ledger finds the change in any snapshot read later. The other way round, an entry could leave
between the two reads and be seen in neither. An entry that is added after the first read moves the ConfigMap's
resourceVersion, so that the write at the end conflicts and everything is decided again.
"""

import asyncio
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from quorate_controller import kube
from quorate_controller.admission import pods
from quorate_controller.kube import Json, Kube
from quorate_controller.membership import key_of, named_vm
from quorate_controller.observe import BadInput, Observed
from quorate_controller.translate import snapshot_from
from quorate_controller.world import World, launched_vm
from quorate_core import ledger
from quorate_core.facts import Protection
from quorate_core.ledger import Ledger, Reservation, ReservationKind

log = logging.getLogger(__name__)

LABEL = "quorate.dev/ledger"
POOL_ANNOTATION = "quorate.dev/pool"
_KEY = "ledger.json"


@dataclass(frozen=True, slots=True)
class Held:
    """A pool's ledger as read. `version` is what a write must still find; None: there is none yet."""

    ledger: Ledger = field(default_factory=Ledger)
    version: str | None = None


class Ledgers(Protocol):
    """The store as admission needs it; the tests have one in memory."""

    async def read(self) -> Mapping[str, Held]:
        """Every pool's ledger, fresh."""

    async def write(self, pool: str, ledger: Ledger, version: str | None) -> None:
        """Replace a pool's ledger. Raises `kube.Conflict` when it is not at that version any more."""


class KubeLedgers:
    """Ledgers in ConfigMaps of Quorate's namespace."""

    def __init__(self, api: Kube, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def read(self) -> Mapping[str, Held]:
        """Every pool's ledger, fresh. A ConfigMap that cannot be read raises `BadInput`: it is never taken for an empty one."""
        found = await self._api.list(kube.CONFIGMAPS, namespace=self._namespace, labels=f"{LABEL}=true")
        return {_pool(obj): Held(decode(obj), obj["metadata"]["resourceVersion"]) for obj in found}

    async def write(self, pool: str, ledger: Ledger, version: str | None) -> None:
        """Replace or create. Raises `kube.Conflict` when somebody else did first."""
        body: Json = {
            "metadata": {
                "name": f"quorate-ledger-{pool}",
                "namespace": self._namespace,
                "labels": {LABEL: "true"},
                "annotations": {POOL_ANNOTATION: pool},
            },
            "data": {_KEY: encode(ledger)},
        }
        if version is None:
            await self._api.create(kube.CONFIGMAPS, body)
            return
        body["metadata"]["resourceVersion"] = version
        try:
            await self._api.replace(kube.CONFIGMAPS, body)
        except kube.Missing as error:
            raise kube.Conflict(str(error)) from error


def encode(ledger: Ledger) -> str:
    """The ledger as JSON, for the ConfigMap."""
    return json.dumps({"entries": [_entry(e) for e in ledger.entries], "shownAt": dict(ledger.shown_at)}, separators=(",", ":"))


def _entry(entry: Reservation) -> Json:
    return {
        "kind": entry.kind.value,
        "subject": entry.subject,
        "request": entry.request,
        "sizeBytes": entry.size_bytes,
        "host": entry.host,
        "pinned": entry.pinned,
        "restart": entry.restart,
        "protection": entry.protection.value,
        "priority": entry.priority,
        "allowed": sorted(entry.allowed) if entry.allowed is not None else None,
        "tolerate": entry.tolerate,
        "hugepagesBytes": entry.hugepages_bytes,
        "apart": sorted(entry.apart),
    }


def decode(obj: Json) -> Ledger:
    """The ledger in a ConfigMap. Raises `BadInput` naming it where it is damaged."""
    try:
        document = json.loads((obj.get("data") or {})[_KEY])
        entries = document["entries"]
        return Ledger(
            tuple(
                Reservation(
                    kind=ReservationKind(e["kind"]),
                    subject=str(e["subject"]),
                    request=str(e["request"]),
                    size_bytes=int(e["sizeBytes"]),
                    host=e["host"],
                    pinned=bool(e["pinned"]),
                    restart=bool(e["restart"]),
                    protection=Protection(e["protection"]),
                    priority=int(e["priority"]),
                    allowed=frozenset(e["allowed"]) if e["allowed"] is not None else None,
                    tolerate=int(e["tolerate"]),
                    hugepages_bytes=int(e.get("hugepagesBytes", 0)),  # a release before this one knew neither
                    apart=frozenset(e.get("apart", ())),
                )
                for e in entries
            ),
            {str(kind): int(version) for kind, version in document.get("shownAt", {}).items()},
        )
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        name = f"ConfigMap {obj['metadata'].get('namespace')}/{obj['metadata']['name']}"
        raise BadInput(name, f"data[{_KEY}]", f"damaged ({error!r}); delete it once no VM is being started") from error


def _pool(obj: Json) -> str:
    annotations = obj["metadata"].get("annotations") or {}
    return str(annotations.get(POOL_ANNOTATION) or obj["metadata"]["name"].removeprefix("quorate-ledger-"))


class Reaper:
    """Takes entries out of the ledgers. Lives as long as one leadership: its memory of ages is its own clock's."""

    def __init__(self, api: Kube, namespace: str) -> None:
        self._api = api
        self._namespace = namespace
        self._ledgers = KubeLedgers(api, namespace)
        self._ages: dict[str, ledger.Ages] = {}

    async def reap(self, world: World, monotonic_seconds: float) -> Mapping[str, tuple[Reservation, ...]]:
        """Drop what the cluster shows or what can no longer come; returns what is still reserved, by pool. Frees stranded launcher pods.

        `monotonic_seconds` was read before what is seen was. A ledger that changes meanwhile waits for the next turn. Raises
        `KubeError` where the API server does not answer.
        """
        observed = world.observed
        for pod in pods.stranded(observed):
            name, namespace = pod["metadata"]["name"], pod["metadata"].get("namespace")
            log.warning("launcher pod %s/%s waits for a host that takes no VMs any more: deleted, KubeVirt makes another", namespace, name)
            try:
                await self._api.delete(kube.PODS, name, namespace, uid=pod["metadata"]["uid"])
            except kube.Refused as error:
                log.warning("launcher pod %s/%s may not be deleted, so its VM waits: %s", namespace, name, error)
        try:
            held = await self._ledgers.read()
        except BadInput as error:
            log.error("the ledger cannot be read, so nothing is admitted: %s", error)
            return {}
        left: dict[str, tuple[Reservation, ...]] = {}
        for pool, found in held.items():
            if all(obj["metadata"]["name"] != pool for obj in observed.hapools):
                await self._api.delete(kube.CONFIGMAPS, f"quorate-ledger-{pool}", self._namespace)
                continue
            left[pool] = found.ledger.entries
            if pool not in world.membership.nodes:
                continue
            seen = await asyncio.to_thread(snapshot_from, world, pool)
            reaping = ledger.reap(self._ages.get(pool, ledger.Ages()), found.ledger, seen, monotonic_seconds)
            self._ages[pool] = reaping.ages
            if not reaping.gone:
                continue
            kept = found.ledger.without(reaping.gone).shown(_versions(observed, reaping.gone))
            try:
                await self._ledgers.write(pool, kept, found.version)
            except kube.Conflict:
                log.debug("ledger of pool %s changed meanwhile; its %d entries wait for the next turn", pool, len(reaping.gone))
                continue
            except kube.Refused as error:
                log.warning("ledger of pool %s may not be changed, so %d entries stay: %s", pool, len(reaping.gone), error)
                continue
            left[pool] = kept.entries
            log.info("ledger of pool %s: %d left, %d gone: %s", pool, len(kept.entries), len(reaping.gone), "; ".join(reaping.why[:5]))
        return left


def _versions(observed: Observed, gone: Iterable[Reservation]) -> Mapping[str, int]:
    """The newest resource version, by kind, of the objects that can have shown these entries."""
    subjects = {entry.subject for entry in gone}
    shown: dict[str, int] = {}

    def note(obj: Json, subject: str | None) -> None:
        version = str(obj["metadata"].get("resourceVersion") or "")
        if subject in subjects and version.isdigit():
            shown[obj["kind"]] = max(shown.get(obj["kind"], 0), int(version))

    for pod in observed.pods:
        note(pod, launched_vm(pod))
    for obj in (*observed.vms, *observed.vmis):
        note(obj, key_of(obj))
    for obj in observed.protectedvms:
        note(obj, named_vm(obj))
    for obj in (*observed.hapools, *observed.hahosts, *observed.nodes):
        note(obj, obj["metadata"]["name"])
    return shown
