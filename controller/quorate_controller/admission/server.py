"""The admission webhook of one replica: HTTPS in, an answer within its own budget out. Every replica serves; none needs to lead.

`/validate` judges changes, `/mutate-pods` keeps starting VMs on the host reserved for them. Both budgets are shorter than the
timeouts in the webhook configurations, so that a slow answer is a considered one: for a change that takes memory or makes a
promise, what could not be decided in time is refused; stopping and deleting pass; pods always pass.
"""

import asyncio
import json
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from aiohttp import web
from prometheus_client import Counter, Histogram

from quorate_controller import kube
from quorate_controller.admission import messages, pods, requests
from quorate_controller.admission.assess import Scene, recovering
from quorate_controller.admission.batch import Batch, Undecided
from quorate_controller.admission.decisions import Allow, Refuse, Verdict
from quorate_controller.admission.mirror import Mirror
from quorate_controller.admission.requests import BadReview, Request
from quorate_controller.admission.store import KubeLedgers, Ledgers
from quorate_controller.kube import Json, Kube
from quorate_controller.observe import BadInput, observe

log = logging.getLogger(__name__)

VALIDATE_SECONDS = 7.0
"""Budget of one validation; its webhook's timeout is 10 s."""
PODS_SECONDS = 2.0
"""Budget of one pod; its webhook's timeout is 3 s."""
RENEW_SECONDS = 30.0
"""How often the files of the certificate are looked at."""
_LARGEST_BODY_BYTES = 8 << 20
_WARNING_LENGTH = 4096

_answers = Counter("quorate_admission_answers", "Answers to admission requests", ["resource", "answer"])
_seconds = Histogram("quorate_admission_seconds", "Duration of an admission answer", buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10))


class Settings(Protocol):
    """The part of the controller's settings that is needed here."""

    @property
    def namespace(self) -> str:
        """Quorate's own namespace."""

    @property
    def webhook_host(self) -> str:
        """Address to listen on."""

    @property
    def webhook_port(self) -> int:
        """Port to listen on."""

    @property
    def webhook_cert(self) -> Path:
        """Certificate, PEM."""

    @property
    def webhook_key(self) -> Path:
        """Private key, PEM."""


async def serve_admission(api: Kube, settings: Settings) -> None:
    """Answer admission requests until cancelled. Raises `OSError` when the port is taken or the certificate cannot be read."""

    async def look() -> Scene:
        return await asyncio.to_thread(Scene, await observe(api))

    ledgers = KubeLedgers(api, settings.namespace)
    mirror = Mirror(api)
    batch = Batch(look, ledgers, near=mirror.near)
    runner = web.AppRunner(application(api, settings.namespace, batch, ledgers), access_log=None)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(settings.webhook_cert, settings.webhook_key)
    try:
        await web.TCPSite(runner, settings.webhook_host, settings.webhook_port, ssl_context=tls, backlog=512).start()
        log.info("admission listens on %s:%d", settings.webhook_host, settings.webhook_port)
        async with asyncio.TaskGroup() as group:
            group.create_task(mirror.run())
            group.create_task(batch.run())
            group.create_task(_renew(tls, settings))
    finally:
        await runner.cleanup()


async def _renew(tls: ssl.SSLContext, settings: Settings) -> None:
    """Take a certificate that has been replaced, for connections from then on; one that cannot be read leaves the old one in use."""
    loaded = _changed_at(settings)
    while True:
        await asyncio.sleep(RENEW_SECONDS)
        changed = _changed_at(settings)
        if changed is None or changed == loaded:
            continue
        try:
            for one in (ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), tls):  # half a pair must not get into the one in use
                one.load_cert_chain(settings.webhook_cert, settings.webhook_key)
        except (OSError, ssl.SSLError) as error:
            log.error("webhook certificate %s has changed and cannot be used: %s", settings.webhook_cert, error)
            continue
        log.info("webhook certificate %s has been replaced", settings.webhook_cert)
        loaded = changed


def _changed_at(settings: Settings) -> tuple[float, float] | None:
    try:
        return settings.webhook_cert.stat().st_mtime, settings.webhook_key.stat().st_mtime
    except OSError:
        return None


def application(api: Kube, namespace: str, batch: Batch, ledgers: Ledgers) -> web.Application:
    """The two paths, and nothing else: an unknown path is 404, which the API server takes for a failure of the webhook."""
    webhook = _Webhook(api, namespace, batch, ledgers)
    app = web.Application(client_max_size=_LARGEST_BODY_BYTES)
    app.router.add_post("/validate", _json(webhook.validate))
    app.router.add_post("/mutate-pods", _json(webhook.mutate_pods))
    return app


def _json(answer: Callable[[Json], Awaitable[Json]]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handler(request: web.Request) -> web.Response:
        try:
            return web.json_response(await answer(json.loads(await request.read())))
        except (ValueError, BadReview) as error:
            return web.Response(status=400, text=f"not an AdmissionReview: {error}")

    return handler


class _Webhook:
    def __init__(self, api: Kube, namespace: str, batch: Batch, ledgers: Ledgers) -> None:
        self._api = api
        self._namespace = namespace
        self._batch = batch
        self._ledgers = ledgers

    async def validate(self, review: Json) -> Json:
        request = requests.parse(review)
        with _seconds.time():
            verdict = await self._verdict(request)
        _answers.labels(request.resource, "allowed" if isinstance(verdict, Allow) else "refused").inc()
        if isinstance(verdict, Refuse):
            status = {"code": 403, "reason": "Forbidden", "message": verdict.message}
            return pods.review({"uid": request.uid, "allowed": False, "status": status})
        return pods.review({"uid": request.uid, "allowed": True, "warnings": [w[:_WARNING_LENGTH] for w in verdict.warnings]})

    async def _verdict(self, request: Request) -> Verdict:
        asks = requests.asks(request)
        if not asks or requests.from_machinery(request, self._namespace):
            return Allow()
        try:
            async with asyncio.timeout(VALIDATE_SECONDS):
                stops = isinstance(asks[0], requests.StopVm)
                if stops and await self._ending(request.namespace):
                    return Allow()
                return await self._batch.submit(request)
        except (Undecided, kube.KubeError, TimeoutError) as error:
            why = str(error) or f"no answer within {VALIDATE_SECONDS:.0f} s"
            if isinstance(asks[0], requests.StopVm):
                return Allow((f"Quorate could not check whether this VM is protected ({why})",))
            return Refuse(messages.undecided(why))

    async def _ending(self, namespace: str) -> bool:
        """Whether the namespace is being deleted: what is in it must be deletable."""
        found = await self._api.get(kube.NAMESPACES, namespace)
        return found is None or "deletionTimestamp" in found["metadata"]

    async def mutate_pods(self, review: Json) -> Json:
        request = requests.parse(review)
        operations: list[Json] = []
        try:
            async with asyncio.timeout(PODS_SECONDS):
                operations = await self._placement(request.object)
        except (kube.KubeError, BadInput, TimeoutError) as error:
            log.warning("launcher pod %s goes its way unplaced: %s", request.key, error or "no time")
        return pods.answer(request.uid, operations)

    async def _placement(self, pod: Json) -> list[Json]:
        held = await self._ledgers.read()
        reservation = pods.reservation_for(pod, (h.ledger for h in held.values()))
        if reservation is None or reservation.host is None:
            return []
        hahost, failovers = await asyncio.gather(self._api.get(kube.HAHOSTS, reservation.host), self._api.list(kube.FAILOVERS))
        if not pods.may_pin(reservation, hahost, recovering(failovers)):
            return []
        log.info("launcher pod of %s is kept on %s, where its memory is reserved", reservation.subject, reservation.host)
        return pods.patch(pod, reservation.host)
