"""Attacks on the controller's acts: a leader that wakes up late, and one small failure that stops all recovery."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from aiohttp import web

from quorate_controller import reconcile
from quorate_controller.events import Events
from quorate_controller.failover import actuate
from quorate_controller.kube import Kube, Refused, Unavailable
from quorate_controller.observe import observe
from quorate_controller.reconcile import Loop
from quorate_controller.settings import Settings
from quorate_controller.triggers import Bell
from quorate_controller.turn import FailoverSummary, Turn
from quorate_controller.world import World
from quorate_core.failover_facts import Action, DeleteAttachment, LiftGate, StartVm, Taint, Untaint
from quorate_core.ledger import Reservation

from .objects import launcher, node
from .scripted_api import ScriptedApi, status
from .test_reconcile import NoLedger, live, store

OUT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


async def turn_of(client: Kube) -> Turn:
    return Turn(client, await observe(client), {}, {}, datetime.now(UTC), time.monotonic(), lambda *_: None)


def after(api: ScriptedApi, actions: list[Action], looked_seconds_ago: float) -> None:
    async def play() -> None:
        async with api.serving(), api.client() as client:
            with suppress(Unavailable):
                await actuate.perform(await turn_of(client), actions, time.monotonic() - looked_seconds_ago)

    asyncio.run(play())


def test_a_leader_that_slept_does_not_take_a_healthy_host_out_of_service() -> None:
    """It slept between its look and this act; meanwhile the next leader saw the host return and closed the failover: nobody unties it."""
    api = ScriptedApi()
    api.put("/api/v1/nodes/n1", node("n1"))
    after(api, [Taint("n1", True)], looked_seconds_ago=300)
    assert not api.objects["/api/v1/nodes/n1"]["spec"].get("taints")


def test_a_leader_that_slept_does_not_lift_the_taint_of_a_host_that_has_died_again() -> None:
    api = ScriptedApi()
    api.put("/api/v1/nodes/n1", node("n1", taints=[OUT]))
    after(api, [Untaint("n1")], looked_seconds_ago=300)
    assert api.objects["/api/v1/nodes/n1"]["spec"].get("taints") == [OUT]


def test_a_leader_that_slept_does_not_detach_a_disk_that_the_returned_host_uses_again() -> None:
    api = ScriptedApi()
    path = "/apis/storage.k8s.io/v1/volumeattachments/va"
    api.put(path, {"metadata": {"name": "va", "uid": "u"}, "spec": {"nodeName": "n1"}})
    after(api, [DeleteAttachment("va", "u", "ns/v")], looked_seconds_ago=300)
    assert path in api.objects


def test_a_vm_that_kubevirt_cannot_start_now_does_not_keep_the_others_behind_their_gates() -> None:
    """virt-api answers 503 (its pods were on the dead host). The order is the same each turn, so the acts after it starve."""
    api = ScriptedApi()
    pod = launcher("w", None, schedulingGates=[{"name": "quorate.dev/recovery"}])
    path = f"/api/v1/namespaces/ns/pods/{pod['metadata']['name']}"
    api.put(path, pod)
    lifted: list[str] = []

    def script(request: web.Request) -> web.StreamResponse | None:
        if request.path.endswith("/start"):
            return status(503, "ServiceUnavailable", "no endpoints available for service virt-api")
        if request.method == "PATCH":
            lifted.append(request.path)
            return web.json_response(api.objects[path])
        return None

    api.script = script
    after(api, [StartVm("ns/m"), LiftGate("ns/w", pod["metadata"]["name"], pod["metadata"]["uid"], None)], looked_seconds_ago=0)
    assert lifted == [path]


class BrokenLedger:
    """The reaper's delete of a stranded pod is refused by somebody's admission policy, each turn."""

    async def reap(self, world: World, started: float, /) -> Mapping[str, tuple[Reservation, ...]]:
        raise Refused("admission webhook denied the request")


def test_an_admission_ledger_that_cannot_be_reaped_does_not_stop_failover() -> None:
    advanced: list[Turn] = []

    async def advance(turn: Turn) -> FailoverSummary:
        advanced.append(turn)
        return FailoverSummary()

    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            store(api)
            loop = Loop(client, Settings(identity="t"), Bell(), Events(client, "t"), BrokenLedger(), advance, live)
            with suppress(Refused):
                await loop.turn()

    asyncio.run(play())
    assert len(advanced) == 1


def test_a_planner_that_fails_for_one_pool_does_not_stop_failover(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan is a comfort, a certificate is not: restarts choose their hosts at the time."""
    advanced: list[Turn] = []

    async def advance(turn: Turn) -> FailoverSummary:
        advanced.append(turn)
        return FailoverSummary()

    def broken(*_: object) -> None:
        raise RuntimeError("a bug in the planner")

    monkeypatch.setattr(reconcile, "plan", broken)

    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            store(api)
            loop = Loop(client, Settings(identity="t"), Bell(), Events(client, "t"), NoLedger(), advance, live)
            with suppress(RuntimeError):
                await loop.turn()

    asyncio.run(play())
    assert len(advanced) == 1
