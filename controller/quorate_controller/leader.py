"""Leadership by a `coordination.k8s.io/Lease`: taken and renewed by compare-and-swap, given up by exiting at once.

A lease is a hint, not a proof: a paused leader can wake up late, so every effect is fenced once more where it is written. Times are
this process's own monotonic ones; the clock in the Lease is for people. `kubernetes.aio`'s own election is not used: it
measures with the wall clock, waits without a deadline for a renewal that hangs, and on loss cancels tasks instead of exiting.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from quorate_controller import kube
from quorate_controller.kube import Json, Kube
from quorate_controller.memory import dig
from quorate_controller.settings import Settings

log = logging.getLogger(__name__)

LOST_EXIT_CODE = 70
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"


@dataclass(frozen=True, slots=True)
class Watch:
    """Somebody else's lease as last seen, and since when (own monotonic seconds) it has not changed."""

    version: str
    since_seconds: float


def may_take(lease: Json | None, identity: str, watch: Watch | None, now_seconds: float) -> tuple[bool, Watch | None]:
    """Whether the lease may be taken now, and what to remember. Another holder's must have stood unchanged for its whole duration."""
    spec = dig(lease, "spec")
    holder = spec.get("holderIdentity")
    if not holder or holder == identity:
        return True, None
    version = str(dig(lease, "metadata").get("resourceVersion"))
    if watch is None or watch.version != version:
        return False, Watch(version, now_seconds)
    duration = float(spec.get("leaseDurationSeconds") or 15)
    return now_seconds - watch.since_seconds >= duration, watch


class Leadership:
    """One replica's claim to the lease. `lost` is called, once, when it can no longer be sure; it must not return."""

    def __init__(self, api: Kube, settings: Settings, *, lost: Callable[[], None] | None = None) -> None:
        self._api = api
        self._settings = settings
        self._lost = lost or _exit
        self._watch: Watch | None = None
        self._lease: Json | None = None
        self._good_until = float("inf")
        self._released = threading.Event()
        self.attempted_at_seconds = time.monotonic()
        self.leading = False

    async def acquire(self) -> None:
        """Wait until this replica leads; from then on a thread ends the process when the lease was not renewed in time."""
        while True:
            if await self._try():
                break
            await asyncio.sleep(self._settings.lease_renew_seconds)
        self.leading = True
        threading.Thread(target=self._deadman, name="lease-deadman", daemon=True).start()
        log.info("%s leads: lease %s taken for %.0f s", self._settings.identity, self._settings.lease_name, self._settings.lease_seconds)

    async def hold(self) -> None:
        """Renew for ever. Another holder in the lease ends the process at once."""
        while True:
            await asyncio.sleep(self._settings.lease_renew_seconds)
            await self._try()

    async def release(self) -> None:
        """Give the lease back, so that another replica need not wait for it to run out. Call only when nothing acts any more."""
        self._released.set()
        if not self.leading or self._lease is None:
            return
        self.leading = False
        try:
            await self._api.replace(kube.LEASES, {**self._lease, "spec": {**dig(self._lease, "spec"), "holderIdentity": ""}})
            log.info("%s gave back lease %s", self._settings.identity, self._settings.lease_name)
        except kube.KubeError as error:
            log.warning("lease %s not given back: %s", self._settings.lease_name, error)

    async def _try(self) -> bool:
        """One attempt to take or renew; True if the lease is now this replica's until `lease_seconds` after the attempt began."""
        s = self._settings
        began = time.monotonic()
        self.attempted_at_seconds = began
        try:
            lease = await self._api.get(kube.LEASES, s.lease_name, s.namespace)
            if self.leading and dig(lease, "spec").get("holderIdentity") != s.identity:
                log.critical("%s leads no more: lease %s is %s's", s.identity, s.lease_name, dig(lease, "spec").get("holderIdentity"))
                self._lost()
                return False
            allowed, self._watch = may_take(lease, s.identity, self._watch, time.monotonic())
            if not allowed:
                return False
            body = _claimed(lease, s)
            self._lease = await (self._api.create(kube.LEASES, body) if lease is None else self._api.replace(kube.LEASES, body))
        except kube.KubeError as error:
            log.log(logging.WARNING if self.leading else logging.DEBUG, "lease %s: %s", s.lease_name, error)
            return False
        self._good_until = began + s.lease_surrender_seconds
        return True

    def _deadman(self) -> None:
        """A thread, so that a blocked event loop cannot act on a lease that has run out."""
        while not self._released.wait(0.2):
            late = time.monotonic() - self._good_until
            if late > 0:
                log.critical(
                    "lease %s not renewed for %.1f s; exiting", self._settings.lease_name, late + self._settings.lease_surrender_seconds
                )
                self._lost()
                return


def _claimed(lease: Json | None, settings: Settings) -> Json:
    spec = dig(lease, "spec")
    now = datetime.now(UTC).strftime(_TIME)
    mine = spec.get("holderIdentity") == settings.identity
    return {
        **(lease or {"metadata": {"name": settings.lease_name, "namespace": settings.namespace}}),
        "spec": {
            **spec,
            "holderIdentity": settings.identity,
            "leaseDurationSeconds": round(settings.lease_seconds),
            "acquireTime": spec.get("acquireTime") if mine and spec.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0) + (0 if mine else 1),
        },
    }


def _exit() -> None:
    """No clean-up: whatever it would take is time in which two replicas act."""
    logging.shutdown()
    os._exit(LOST_EXIT_CODE)
