"""The loop's turn against a scripted API: it converges from anywhere, writes nothing twice, and no object's failure stops another."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from aiohttp import web

from quorate_api.failover import Failover
from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_controller import kube
from quorate_controller.events import Events
from quorate_controller.reconcile import Loop
from quorate_controller.settings import Settings
from quorate_controller.statuses import Verdict
from quorate_controller.triggers import Bell
from quorate_controller.turn import FailoverSummary, Turn
from quorate_controller.world import World
from quorate_core.facts import HostPhase
from quorate_core.ledger import Reservation

from .objects import Json, hahost, launcher, node, pool, vm, vmi
from .scripted_api import ScriptedApi, status

QUORATE = "/apis/quorate.dev/v1alpha1"


class NoLedger:
    async def reap(self, world: World, started: float, /) -> Mapping[str, tuple[Reservation, ...]]:
        return {}


def live(pool: HAPool, hosts: Sequence[HAHost], failovers: Sequence[Failover], now: datetime) -> Mapping[str, Verdict]:
    return {host.metadata.name: Verdict(HostPhase.LIVE) for host in hosts}


async def nothing(turn: Turn) -> FailoverSummary:
    return FailoverSummary()


def store(api: ScriptedApi) -> None:
    """Two hosts, a pool, a running VM that is to be protected by its label."""
    for obj in (node("n1"), node("n2")):
        api.put(f"/api/v1/nodes/{obj['metadata']['name']}", obj)
    api.put(f"{QUORATE}/hapools/a", pool())
    api.put("/apis/kubevirt.io/v1/virtualmachines/v", vm("v", labels={"quorate.dev/protection": "Protected"}))
    api.put("/apis/kubevirt.io/v1/virtualmachineinstances/v", vmi("v", "n1"))
    api.put("/api/v1/pods/v", launcher("v", "n1"))


@asynccontextmanager
async def loop(api: ScriptedApi, advance: Callable[..., object] = nothing) -> AsyncIterator[Loop]:
    async with api.client() as client:
        bell = Bell()
        yield Loop(client, Settings(identity="t"), bell, Events(client, "t"), NoLedger(), advance, live)  # type: ignore[arg-type]


def writes(api: ScriptedApi) -> list[tuple[str, str]]:
    return [request for request in api.requests if request[0] != "GET"]


def settled(api: ScriptedApi) -> dict[str, Json]:
    """What was written, without what differs from run to run; the scripted API lists namespaced objects by their collection only.

    Zones may differ: they depend on when a search has ended. What they prove is compared, in the pool's status.
    """
    found = {}
    for path, obj in api.objects.items():
        if path.startswith(QUORATE):
            conditions = [(c["type"], c["status"], c["reason"]) for c in obj.get("status", {}).get("conditions", [])]
            rest = {
                key: value
                for key, value in obj.get("status", {}).items()
                if key not in {"conditions", "slot", "zones", "zoneBytes", "zone"}
            }
            found[path] = {"spec": obj["spec"], "conditions": conditions, "status": rest}
    return found


def test_turns_create_hosts_and_protected_vms_write_statuses_and_then_rest() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            async with loop(api) as under_test:
                for _ in range(3):
                    await under_test.turn()
                assert {f"{QUORATE}/hahosts/n1", f"{QUORATE}/hahosts/n2", f"{QUORATE}/namespaces/ns/protectedvms/v"} <= api.objects.keys()
                assert api.objects[f"{QUORATE}/hahosts/n2"]["status"]["slot"] == 1
                assert api.objects[f"{QUORATE}/hapools/a"]["status"]["planExistsFor"] == 1
                api.requests.clear()
                await under_test.turn()
                assert [w for w in writes(api) if "protectedvms" not in w[1]] == []

    asyncio.run(play())


@pytest.mark.parametrize("survive", range(8))
def test_a_controller_that_dies_after_any_write_leaves_what_the_next_one_finishes(survive: int) -> None:
    async def play() -> tuple[dict[str, Json], dict[str, Json], list[int]]:
        async with ScriptedApi().serving() as whole, ScriptedApi().serving() as broken:
            for api in (whole, broken):
                store(api)
            async with loop(whole) as uninterrupted:
                for _ in range(4):
                    await uninterrupted.turn()

            def die(request: web.Request) -> web.StreamResponse | None:
                return status(503, "X", "the connection is gone") if request.method != "GET" and len(writes(broken)) > survive else None

            broken.script = die
            async with loop(broken) as first:
                for _ in range(2):
                    await first.turn()
            broken.script = None
            async with loop(broken) as second:
                for _ in range(4):
                    await second.turn()
            slots = sorted(obj["status"]["slot"] for path, obj in broken.objects.items() if "/hahosts/" in path)
            return settled(whole), settled(broken), slots

    expected, found, slots = asyncio.run(play())
    assert found == expected
    assert len(expected) == 4
    assert slots == [0, 1]


def test_an_object_that_cannot_be_written_stops_no_other() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            api.script = lambda r: status(500, "X", "broken") if r.method != "GET" and r.path.endswith(("hapools/a/status",)) else None
            async with loop(api) as under_test:
                for _ in range(3):
                    await under_test.turn()
            assert "status" not in api.objects[f"{QUORATE}/hapools/a"]
            assert api.objects[f"{QUORATE}/hahosts/n1"]["status"]["phase"] == "Live"

    asyncio.run(play())


def test_a_pool_that_cannot_be_read_says_so_and_the_other_is_planned() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            wrong = pool("wrong", selector={"matchLabels": {"pool": "none"}}, heartbeat={"storage": {"devicePath": "/d", "claimName": "c"}})
            api.put(f"{QUORATE}/hapools/wrong", wrong)
            async with loop(api) as under_test:
                await under_test.turn()
                await under_test.turn()
            (ready,) = api.objects[f"{QUORATE}/hapools/wrong"]["status"]["conditions"]
            assert (ready["reason"], ready["message"]) == (
                "BadInput",
                "HAPool wrong: spec.heartbeat.storage: exactly one of storageClassName, claimName, devicePath is needed; "
                "claimName and devicePath given",
            )
            assert api.objects[f"{QUORATE}/hapools/a"]["status"]["hosts"] == 2

    asyncio.run(play())


def disks(path: str) -> Json:
    return {"storage": {"devicePath": path, "additionalDevicePaths": []}}


def on(api: ScriptedApi, path: str) -> None:
    """The user changes the heartbeat disk; the server fills in defaults."""
    present = api.objects[f"{QUORATE}/hapools/a"]
    api.put(f"{QUORATE}/hapools/a", {**present, "spec": {**present["spec"], "heartbeat": disks(path)}})


def in_force(api: ScriptedApi) -> tuple[str, int]:
    found = api.objects[f"{QUORATE}/hapools/a"]["status"]["heartbeat"]
    return found["storage"]["devicePath"], found["generation"]


def test_heartbeat_disks_that_change_away_and_back_rise_by_two_and_a_new_leader_goes_on_counting() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            on(api, "/dev/d1")
            for path, generation in (("/dev/d1", 1), ("/dev/d2", 2), ("/dev/d1", 3)):
                on(api, path)
                async with loop(api) as leader:
                    await leader.turn()
                    await leader.turn()
                assert in_force(api) == (path, generation)
            async with loop(api) as successor:
                await successor.turn()
            assert in_force(api) == ("/dev/d1", 3)

    asyncio.run(play())


def test_a_leader_that_has_read_before_another_wrote_takes_nothing_back() -> None:
    """It slept between its look and its write; meanwhile the disks went to the second and back to the first."""

    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            on(api, "/dev/d1")
            async with loop(api) as successor:

                async def sleep(turn: Turn) -> FailoverSummary:
                    await successor.turn()
                    for path in ("/dev/d2", "/dev/d1"):
                        on(api, path)
                        await successor.turn()
                    return FailoverSummary()

                async with loop(api, sleep) as stale:
                    await stale.turn()
            assert in_force(api) == ("/dev/d1", 3)

    asyncio.run(play())


def test_a_pool_that_cannot_be_read_any_more_keeps_its_disks_in_force() -> None:
    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            async with loop(api) as under_test:
                await under_test.turn()
                before = api.objects[f"{QUORATE}/hapools/a"]
                wrong = {"storage": {"devicePath": "/d", "claimName": "c"}}
                api.put(f"{QUORATE}/hapools/a", {**before, "spec": {**before["spec"], "heartbeat": wrong}})
                await under_test.turn()
            status = api.objects[f"{QUORATE}/hapools/a"]["status"]
            assert [c["reason"] for c in status["conditions"] if c["type"] == "Ready"] == ["BadInput"]
            assert in_force(api) == ("/dev/disk/by-id/quorum", 1)

    asyncio.run(play())


def test_that_disks_were_taken_over_is_said_once_with_their_names(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            async with loop(api) as under_test:
                for path in ("/dev/d1", "/dev/d2", "/dev/d2"):
                    on(api, path)
                    await under_test.turn()

    asyncio.run(play())
    said = [record.getMessage() for record in caplog.records if "taken over" in record.getMessage()]
    assert said == [f"HAPool a: heartbeat disks devicePath /dev/d{n} taken over, generation {n}" for n in (1, 2)]


def test_a_failover_that_could_not_be_advanced_keeps_its_pool_recovering() -> None:
    async def down(turn: Turn) -> FailoverSummary:
        raise kube.Unavailable("no answer")

    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            api.put(f"{QUORATE}/hapools/a", pool(phase="Recovering"))
            api.put(f"{QUORATE}/hahosts/n1", hahost("n1", slot=0))
            async with loop(api, down) as under_test:
                await under_test.turn()
            assert api.objects[f"{QUORATE}/hapools/a"]["status"]["phase"] == "Recovering"
            assert api.objects[f"{QUORATE}/hapools/a"]["status"]["hosts"] == 1

    asyncio.run(play())


def test_an_error_of_our_own_ends_the_loop_after_several_turns_in_a_row() -> None:
    async def wrong(turn: Turn) -> FailoverSummary:
        raise RuntimeError("a mistake in the workflow")

    async def play() -> None:
        async with ScriptedApi().serving() as api:
            store(api)
            async with api.client() as client:
                settings = Settings(identity="t", tick_seconds=0.001, debounce_seconds=0)
                under_test = Loop(client, settings, Bell(), Events(client, "t"), NoLedger(), wrong, live)
                with pytest.raises(RuntimeError, match="a mistake"):
                    await asyncio.wait_for(under_test.run(), 60)

    asyncio.run(play())
