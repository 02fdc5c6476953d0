"""The port: errors say what to do, writes are never repeated, lists are whole."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from quorate_controller import kube
from quorate_controller.kube import Conflict, Kube, KubeError, Missing, Refused, Unavailable

from .objects import node
from .scripted_api import ScriptedApi, status


def run(test: Callable[[ScriptedApi, Kube], Awaitable[None]], **arguments: float) -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client(**arguments) as client:
            await test(api, client)

    asyncio.run(play())


def test_a_list_has_every_object_of_every_page_with_its_kind() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        for i in range(kube.PAGE * 2 + 1):
            api.put(f"/api/v1/nodes/n{i:04}", {"metadata": {"name": f"n{i:04}"}})
        found = await client.list(kube.NODES)
        assert len(found) == kube.PAGE * 2 + 1
        assert {(item["apiVersion"], item["kind"]) for item in found} == {("v1", "Node")}
        assert len(api.requests) == 3

    run(test)


def test_a_list_whose_continuation_expired_starts_again_and_is_whole() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        for i in range(kube.PAGE + 1):
            api.put(f"/api/v1/nodes/n{i}", {"metadata": {"name": f"n{i}"}})
        expired = []

        def once(request: web.Request) -> web.StreamResponse | None:
            if request.query.get("continue") and not expired:
                expired.append(True)
                return status(410, "Expired", "the continue token is too old")
            return None

        api.script = once
        assert len(await client.list(kube.NODES)) == kube.PAGE + 1

    run(test)


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (409, Conflict),
        (404, Missing),
        (403, Refused),
        (422, Refused),
        (400, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_each_answer_becomes_the_error_that_says_what_to_do(code: int, error: type[KubeError]) -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        api.script = lambda _: status(code, "X", "the server's own words")
        with pytest.raises(error, match="the server's own words"):
            await client.create(kube.NODES, node("n1"))
        assert len(api.requests) == 1

    run(test)


def test_a_read_is_repeated_while_the_server_fails_and_a_write_never() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        api.put("/api/v1/nodes/n1", node("n1"))
        api.script = lambda _: status(503, "X", "busy") if len(api.requests) < kube.READ_ATTEMPTS else None
        assert await client.get(kube.NODES, "n1") is not None
        assert len(api.requests) == kube.READ_ATTEMPTS
        api.requests.clear()
        api.script = lambda _: status(503, "X", "busy")
        with pytest.raises(Unavailable):
            await client.merge(kube.NODES, "n1", {})
        assert len(api.requests) == 1

    run(test)


def test_an_answer_that_does_not_come_in_time_is_unavailable() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        api.delay_seconds = 5
        with pytest.raises(Unavailable):
            await client.create(kube.NODES, node("n1"))

    run(test, request_seconds=0.2)


def test_a_delete_with_another_uid_does_nothing() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        api.put("/api/v1/nodes/n1", node("n1"))
        assert await client.delete(kube.NODES, "n1", uid="somebody-else") is False
        assert "/api/v1/nodes/n1" in api.objects
        assert await client.delete(kube.NODES, "n1", uid="node-n1") is True
        assert await client.delete(kube.NODES, "n1", uid="node-n1") is False

    run(test)


def test_a_replacement_without_a_version_is_a_mistake_of_the_caller() -> None:
    async def test(api: ScriptedApi, client: Kube) -> None:
        with pytest.raises(ValueError, match="resourceVersion"):
            await client.replace(kube.NODES, node("n1"))
        assert api.requests == []

    run(test)


def test_a_missing_kubeconfig_is_one_sentence() -> None:
    with pytest.raises(Unavailable, match="no usable credentials in kubeconfig absent"):
        asyncio.run(Kube.connect(kube.Path("absent")))
