"""Leadership: one at a time, by compare-and-swap, on the holder's own clock, and given up rather than doubted."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from quorate_controller.kube import Kube
from quorate_controller.leader import Leadership, Watch, may_take
from quorate_controller.settings import Settings

from .scripted_api import Json, ScriptedApi, status

PATH = "/apis/coordination.k8s.io/v1/namespaces/quorate-system/leases/quorate-controller"
QUICK = Settings(lease_seconds=2.0, lease_surrender_seconds=1.5, lease_renew_seconds=0.05)


def lease(holder: str, version: str = "1", seconds: int = 15) -> Json:
    return {
        "metadata": {"name": "quorate-controller", "namespace": "quorate-system", "resourceVersion": version},
        "spec": {"holderIdentity": holder, "leaseDurationSeconds": seconds},
    }


def test_a_free_lease_or_ones_own_may_be_taken_at_once() -> None:
    assert may_take(None, "me", None, 100.0)[0]
    assert may_take(lease(""), "me", None, 100.0)[0]
    assert may_take(lease("me"), "me", None, 100.0)[0]


def test_anothers_lease_may_be_taken_only_after_it_was_watched_unchanged_for_its_whole_duration() -> None:
    allowed, watch = may_take(lease("other"), "me", None, 100.0)
    assert (allowed, watch) == (False, Watch("1", 100.0))
    assert may_take(lease("other"), "me", watch, 114.9) == (False, watch)
    assert may_take(lease("other"), "me", watch, 115.0)[0]
    assert may_take(lease("other", "2"), "me", watch, 115.0) == (False, Watch("2", 115.0))


def test_the_clock_in_the_lease_is_not_believed() -> None:
    ancient = lease("other")
    ancient["spec"]["renewTime"] = "1999-01-01T00:00:00.000000Z"
    assert not may_take(ancient, "me", None, 100.0)[0]


def test_of_two_replicas_one_leads_and_the_other_follows_when_the_lease_is_given_back() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as one, api.client() as two:
            first, second = (leadership(client, name) for client, name in ((one, "one"), (two, "two")))
            await first.acquire()
            holding = asyncio.create_task(first.hold())
            waiting = asyncio.create_task(second.acquire())
            await asyncio.sleep(2 * QUICK.lease_seconds)
            assert not waiting.done(), "the second leads while the first renews"
            holding.cancel()
            await first.release()
            await asyncio.wait_for(waiting, 30)
            spec = api.objects[PATH]["spec"]
            assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("two", 2)
            await second.release()

    asyncio.run(play())


def test_a_dead_leaders_lease_runs_out() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            api.put(PATH, lease("dead", seconds=1))
            second = leadership(client, "two")
            await asyncio.wait_for(second.acquire(), 30)
            assert api.objects[PATH]["spec"]["holderIdentity"] == "two"
            await second.release()

    asyncio.run(play())


def test_a_leader_that_cannot_renew_gives_up_before_another_may_take_over() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            lost: list[str] = []
            leader = leadership(client, "one", lost)
            await leader.acquire()
            holding = asyncio.create_task(leader.hold())
            api.script = lambda _: status(503, "X", "down")
            await until(lambda: bool(lost))
            holding.cancel()
            assert lost == ["one"]

    asyncio.run(play())


def test_a_leader_whose_event_loop_hangs_is_ended_by_the_deadman() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            lost: list[str] = []
            leader = leadership(client, "one", lost)
            await leader.acquire()
            await asyncio.to_thread(lambda: None)
            hang(lost)  # blocks this very loop: nothing renews, nothing but a thread can notice
            assert lost == ["one"]

    asyncio.run(play())


def test_a_leader_that_finds_anothers_name_in_the_lease_is_lost_at_once() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api, api.client() as client:
            lost: list[str] = []
            leader = leadership(client, "one", lost, replace(QUICK, lease_seconds=60.0, lease_surrender_seconds=50.0))
            await leader.acquire()
            api.put(PATH, lease("usurper"))
            holding = asyncio.create_task(leader.hold())
            await until(lambda: bool(lost))
            holding.cancel()
            await leader.release()
            assert api.objects[PATH]["spec"]["holderIdentity"] == "usurper"

    asyncio.run(play())


def leadership(client: Kube, name: str, lost: list[str] | None = None, settings: Settings = QUICK) -> Leadership:
    calls = lost if lost is not None else []
    return Leadership(client, replace(settings, identity=name), lost=lambda: calls.append(name))


def hang(lost: list[str]) -> None:
    deadline = time.monotonic() + 30
    while not lost and time.monotonic() < deadline:
        time.sleep(0.05)


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
