"""The webhook over HTTP: what the API server gets to see, also when the cluster cannot be read."""

import asyncio
import base64
import json
import random
from collections.abc import Mapping
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from quorate_controller import kube
from quorate_controller.admission.assess import Scene
from quorate_controller.admission.batch import Batch
from quorate_controller.admission.server import application
from quorate_controller.admission.store import Held
from quorate_controller.kube import Resource
from quorate_controller.observe import Observed
from quorate_core.ledger import Ledger, Reservation, ReservationKind
from tests.controller.admission.model import Model
from tests.controller.admission.objects import Json, cluster, hahost, launcher, pvm, review, vm
from tests.controller.admission.test_batch import pool_of

PINNED = Ledger((Reservation(ReservationKind.START, "d/a", "r", size_bytes=1, host="n1", pinned=True),))


class Api:
    """The few reads that the server makes itself."""

    def __init__(self, observed: Observed, ending: bool = False) -> None:
        self._observed = observed
        self._ending = ending

    async def get(self, r: Resource, name: str, namespace: str | None = None) -> Json | None:
        """A namespace or a host."""
        if r is kube.NAMESPACES:
            return {"metadata": {"deletionTimestamp": "now"} if self._ending else {}}
        return next((h for h in self._observed.hahosts if h["metadata"]["name"] == name), None)

    async def list(self, r: Resource, **_: object) -> list[Json]:
        """No failovers."""
        return []


class Unreadable(Model):
    """A store that does not answer."""

    async def read(self) -> Mapping[str, Held]:
        """No answer."""
        raise kube.Unavailable("connection refused")


def post(path: str, body: Any, observed: Observed, *, ledgers: Model | None = None, ending: bool = False) -> tuple[int, Json]:
    """Status and answer of one request to a server that sees that cluster."""

    async def run() -> tuple[int, Json]:
        async def look() -> Scene:
            return Scene(observed)

        store = ledgers or Model(pool_of([], 0), random.Random(1))
        batch = Batch(look, store)
        deciding = asyncio.create_task(batch.run())
        app = application(Api(observed, ending), "quorate-system", batch, store)  # type: ignore[arg-type]
        async with TestClient(TestServer(app)) as client:
            answer = await client.post(path, data=body if isinstance(body, bytes) else json.dumps(body))
            text = await answer.text()
        deciding.cancel()
        return answer.status, json.loads(text) if text.startswith("{") else {"text": text}

    return asyncio.run(run())


def validated(body: Json, observed: Observed, **more: Any) -> Json:
    """The response part of a validation."""
    status, answer = post("/validate", body, observed, **more)
    assert status == 200
    response: Json = answer["response"]
    assert response["uid"] == "u-1"
    return response


BIG = vm("a", 64, "Always", labels={"quorate.dev/protection": "Protected"})
GUARDED = cluster(vms=(vm("a", 2, "Always"),), protectedvms=(pvm("a"),), pods=(launcher("a", "n1"),))


def test_a_refusal_is_403_with_the_words() -> None:
    response = validated(review(BIG), cluster())
    assert response["allowed"] is False
    assert response["status"]["code"] == 403
    assert "d/a needs 64" in response["status"]["message"]


def test_warnings_reach_the_client() -> None:
    assert "no VirtualMachine d/later yet" in validated(review(pvm("later")), cluster())["warnings"][0]


def test_the_restart_path_is_not_even_looked_at() -> None:
    nothing_readable = Unreadable(pool_of([], 0), random.Random(1))
    for user in ("system:serviceaccount:kubevirt:kubevirt-controller", "system:kube-controller-manager"):
        assert validated(review(BIG, user=user), cluster(), ledgers=nothing_readable)["allowed"]


def test_what_cannot_be_checked_is_not_started_but_may_be_stopped() -> None:
    nothing_readable = Unreadable(pool_of([], 0), random.Random(1))
    start = validated(review(BIG), cluster(), ledgers=nothing_readable)
    assert not start["allowed"]
    assert "connection refused" in start["status"]["message"]
    assert "try again" in start["status"]["message"]
    stop = validated(review(None, vm("a", 2, "Always")), GUARDED, ledgers=nothing_readable)
    assert stop["allowed"]
    assert "connection refused" in stop["warnings"][0]


def test_a_protected_vm_is_deleted_with_its_namespace_but_not_alone() -> None:
    delete = review(None, vm("a", 2, "Always"))
    assert not validated(delete, GUARDED)["allowed"]
    assert validated(delete, GUARDED, ending=True)["allowed"]


def test_an_unknown_path_or_body_is_an_error_and_not_an_approval() -> None:
    assert post("/other", review(BIG), cluster())[0] == 404
    assert post("/validate", b"not json", cluster())[0] == 400
    assert post("/validate", {"kind": "AdmissionReview"}, cluster())[0] == 400


def mutated(pod: Json, observed: Observed, store: Model) -> list[Json]:
    """The operations that a launcher pod gets."""
    status, answer = post("/mutate-pods", review(pod), observed, ledgers=store)
    assert (status, answer["response"]["allowed"]) == (200, True)
    patch = answer["response"].get("patch")
    operations: list[Json] = json.loads(base64.b64decode(patch)) if patch else []
    return operations


def test_a_launcher_pod_is_kept_on_its_reserved_host_while_that_host_lives() -> None:
    store = Model(pool_of([], 0), random.Random(1), held=Held(PINNED, "1"))
    assert [op["path"] for op in mutated(launcher("a", None), cluster(), store)] == ["/spec/affinity", "/metadata/annotations"]
    fenced = {**hahost("n1"), "status": {"phase": "Fenced"}}
    assert mutated(launcher("a", None), cluster(hahosts=(fenced,)), store) == []


def test_a_launcher_pod_passes_when_nothing_can_be_read() -> None:
    assert mutated(launcher("a", None), cluster(), Unreadable(pool_of([], 0), random.Random(1))) == []
