"""Hands the pool's objects to the process that keeps the backup on the heartbeat disk. Report itself has no device and writes to none.

Of a pool's hosts the live one with the lowest slot does it; on the others there is no file, so nothing is written. If two hosts think that
they are that one for a moment, both write the same objects, each copy is checked after it was written, and the next change mends the rest.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from quorate_agent.report.api import NoAnswer
from quorate_agent.statefile import document
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_api.protectedvm import ProtectedVM
from quorate_core.facts import HostPhase

_LOOK_EVERY_SECONDS = 60.0


class Objects(Protocol):
    """The part of report's port to the API that this needs."""

    async def hosts(self) -> list[HAHost]:
        """All HAHosts."""

    async def listed(self, plural: str) -> list[dict[str, Any]]:
        """All objects of a kind, as the server gives them."""


async def hand_over(api: Objects, host: str, say: Callable[[str, str], None]) -> None:
    """Keep the file as it should be until cancelled. `say` takes a subject and a sentence; "" once it is well."""
    while True:
        try:
            text = await wanted(api, host)
            if text is None:
                Path(document.FILE).unlink(missing_ok=True)
            elif _differs(text):
                fresh = Path(document.FILE + ".new")
                fresh.write_text(text)
                fresh.replace(document.FILE)
            say("backup", "")
        except (NoAnswer, OSError) as error:
            say("backup", f"the backup of the pool stays as it is: {error}")
        await asyncio.sleep(_LOOK_EVERY_SECONDS)


async def wanted(api: Objects, host: str) -> str | None:
    """The document, if it is this host that hands it over. Raises NoAnswer."""
    hosts = await api.hosts()
    pool = next((h.spec.pool for h in hosts if h.metadata.name == host), None)
    if pool is None or writer(hosts, pool) != host:
        return None
    found = [one for one in await api.listed(HAPool.PLURAL) if one["metadata"]["name"] == pool]
    if not found:
        return None
    members = [one for one in await api.listed(HAHost.PLURAL) if one.get("spec", {}).get("pool") == pool]
    return document.compose(found[0], members, of_pool(await api.listed(ProtectedVM.PLURAL), pool))


def writer(hosts: Sequence[HAHost], pool: str) -> str | None:
    """The host of that pool that hands the document over: the live one with the lowest slot."""
    live = [(h.status.slot, h.metadata.name) for h in hosts if h.spec.pool == pool and h.status.phase is HostPhase.LIVE]
    return min(((slot, name) for slot, name in live if slot is not None), default=(0, None))[1]


def of_pool(vms: Sequence[Mapping[str, Any]], pool: str) -> list[Mapping[str, Any]]:
    """The ProtectedVMs of that pool: those that name it, and those that name none and were counted to it."""
    return [vm for vm in vms if vm.get("spec", {}).get("pool", vm.get("status", {}).get("pool")) == pool]


def _differs(text: str) -> bool:
    try:
        return Path(document.FILE).read_text() != text
    except (FileNotFoundError, UnicodeDecodeError):
        return True
