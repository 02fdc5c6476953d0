"""The doorbell: kopf watches what decisions depend on, and every event does one thing, wake the loop.

kopf runs in a thread of its own with its own event loop, so that neither its load nor its end touches the lease or the loop.
No handler reads the event or writes to an object (kopf would leave finalizers and annotations); a bell that is missed costs
the seconds until the next tick, never correctness.
"""

import asyncio
import logging
import threading
from typing import Any

import kopf

from quorate_controller import kube
from quorate_controller.kube import Kube

log = logging.getLogger(__name__)

RESTART_SECONDS = 10.0
WATCHED = (kube.NODES, kube.PODS, kube.VMS, kube.VMIS, kube.HAPOOLS, kube.HAHOSTS, kube.PROTECTEDVMS, kube.FAILOVERS)


class Bell:
    """Rung from any thread, waited for in one event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._rung = asyncio.Event()

    def ring(self) -> None:
        """Wake the waiter now or at its next wait."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, timeout_seconds: float) -> bool:
        """Wait for a ring, at most so long; False if there was none. Rings until then count as one."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._rung.wait()
        except TimeoutError:
            return False
        self._rung.clear()
        return True


async def watch(api: Kube, bell: Bell) -> None:
    """Run kopf until cancelled; it is started again when it ends, since the loop can do without it for a while."""
    while True:
        stop = threading.Event()
        runner = asyncio.get_running_loop().run_in_executor(None, _run, api, bell, stop)
        try:
            await asyncio.shield(runner)
        except asyncio.CancelledError:
            stop.set()
            raise
        except Exception:
            log.exception("kopf ended; watching again in %.0f s, the loop ticks meanwhile", RESTART_SECONDS)
        await asyncio.sleep(RESTART_SECONDS)


def _run(api: Kube, bell: Bell, stop: threading.Event) -> None:
    asyncio.run(
        kopf.operator(
            registry=registry(api, bell),
            settings=operator_settings(),
            standalone=True,  # a stranger's peering object named "default" must not pause us
            clusterwide=True,
            stop_flag=stop,
        )
    )


def registry(api: Kube, bell: Bell) -> kopf.OperatorRegistry:
    """Handlers that ring the bell, and a login with the credentials that the controller itself uses."""
    handlers = kopf.OperatorRegistry()

    async def ring(**_: Any) -> None:
        bell.ring()

    for r in WATCHED:
        group, _, version = r.api_version.rpartition("/")
        kopf.on.event(group=group, version=version, plural=r.plural, id=f"bell-{r.plural}", registry=handlers)(ring)

    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection(api)

    kopf.on.login(id="same-credentials", registry=handlers)(login)
    return handlers


async def connection(api: Kube) -> kopf.ConnectionInfo:
    """The controller's own credentials as kopf wants them; asked for again when the API server refuses them."""
    c = api.configuration
    bearer: str | None = await c.get_api_key_with_prefix("BearerToken")
    return kopf.ConnectionInfo(
        server=c.host,
        ca_path=c.ssl_ca_cert,
        ca_data=c.ca_cert_data,
        insecure=not c.verify_ssl,
        certificate_path=c.cert_file,
        private_key_path=c.key_file,
        scheme="Bearer" if bearer else None,
        token=bearer.removeprefix("Bearer ") if bearer else None,
        trust_env=True,
    )


def operator_settings() -> kopf.OperatorSettings:
    """Short timeouts everywhere: kopf's own would leave a dead watch unnoticed for minutes."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True  # no watching of CRDs and namespaces: fewer rights
    settings.posting.enabled = False
    settings.networking.connect_timeout = 3
    settings.networking.request_timeout = 10
    settings.networking.error_backoffs = [0.5, 1, 2, 4]
    settings.watching.server_timeout = 240
    settings.watching.chunk_size = kube.PAGE
    settings.watching.label_selectors["pods"] = "kubevirt.io=virt-launcher"  # other pods are seen at the next tick
    settings.queueing.error_delays = [1, 2, 5]
    return settings
