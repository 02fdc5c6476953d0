"""The mirror: what it shows is what a fresh read would show, and where it may be behind what was admitted it says no."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import replace
from random import Random

import pytest

from quorate_controller import observe as reading
from quorate_controller.admission import mirror as under_test
from quorate_controller.admission.assess import Scene
from quorate_controller.admission.mirror import Mirror
from quorate_controller.kube import Json, Resource
from quorate_controller.observe import Observed
from quorate_core.ledger import Ledger
from tests.controller.admission.model import request
from tests.controller.objects import hahost, launcher, node, pool, protected_vm, vm, vmi


class Server:
    """An API server in memory: lists, watches, and one counter of versions for all kinds."""

    def __init__(self) -> None:
        self.version = 0
        self.objects: dict[str, dict[tuple[str, str], Json]] = {r.kind: {} for r in reading.kinds()}
        self.events: dict[str, list[Json]] = {r.kind: [] for r in reading.kinds()}
        self.told = asyncio.Event()

    def put(self, obj: Json) -> int:
        """Create or change; the version."""
        self.version += 1
        obj = {**obj, "metadata": {**obj["metadata"], "resourceVersion": str(self.version), "managedFields": [1]}}
        self.objects[obj["kind"]][_name(obj)] = obj
        self._tell(obj, "MODIFIED")
        return self.version

    def drop(self, obj: Json) -> None:
        """Delete."""
        self.version += 1
        gone = self.objects[obj["kind"]].pop(_name(obj))
        self._tell({**gone, "metadata": {**gone["metadata"], "resourceVersion": str(self.version)}}, "DELETED")

    def _tell(self, obj: Json, what: str) -> None:
        self.events[obj["kind"]].append({"type": what, "object": obj})
        self.told.set()

    async def list_at(self, r: Resource) -> tuple[list[Json], str]:
        """As `Kube.list_at`."""
        return [{**o, "metadata": dict(o["metadata"])} for o in self.objects[r.kind].values()], str(self.version)

    async def watch(self, r: Resource, version: str, seconds: int) -> AsyncIterator[Json]:
        """As `Kube.watch`, without an end."""
        at = 0
        while True:
            events = self.events[r.kind]
            for event in events[at:]:
                if int(event["object"]["metadata"]["resourceVersion"]) > int(version):
                    obj = event["object"]
                    yield {**event, "object": {**obj, "metadata": dict(obj["metadata"])}}
            at = len(events)
            self.told.clear()
            await self.told.wait()

    def read(self) -> Observed:
        """A fresh read."""
        found = dict.fromkeys(set(reading.kinds().values()), ())
        for r, name in reading.kinds().items():
            found[name] = (*found[name], *(o for _, o in sorted(self.objects[r.kind].items())))  # type: ignore[assignment]
        return Observed(**found)  # type: ignore[arg-type]


def _name(obj: Json) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def filled() -> Server:
    server = Server()
    for n in ("n1", "n2", "n3"):
        server.put(node(n))
        server.put(hahost(n))
    server.put(pool(phase="Armed"))
    for i in range(4):
        for obj in (vm(f"v{i}"), vmi(f"v{i}", "n1"), launcher(f"v{i}", "n1"), protected_vm(f"v{i}")):
            server.put(obj)
    return server


async def settled(mirror: Mirror, ledgers: Mapping[str, Ledger]) -> Scene:
    for _ in range(200):
        scene = await mirror.near(ledgers, [START])
        if scene is not None:
            return scene
        await asyncio.sleep(0.01)
    raise AssertionError("the mirror never came so far")


START = replace(request("new0"), new=vm("new0"), old=vm("new0", strategy="Halted"))
PROTECT = replace(request("new0"), resource="protectedvms", new=protected_vm("new0"), old=None)


def test_after_any_events_the_mirror_shows_what_a_fresh_read_shows() -> None:
    async def play(dice: Random) -> None:
        server = filled()
        mirror = Mirror(server)  # type: ignore[arg-type]
        task = asyncio.create_task(mirror.run())
        try:
            for step in range(8):
                name, host = f"v{dice.randrange(6)}", dice.choice(["n1", "n2", "n3"])
                server.put(dice.choice([launcher(name, host, dice.choice(["1300Mi", "5Gi"])), vm(name, dice.choice(["1Gi", "4Gi"]))]))
                match step % 4:
                    case 0:
                        server.put(protected_vm(name, protection=dice.choice(["Protected", "BestEffort"]), priority=step))
                    case 1:
                        server.put(node(host, labels={"zone": str(step)}))
                    case 2:
                        server.put(vmi(name, host))
                    case _:
                        server.put(vm(name, template={"nodeSelector": {"zone": str(dice.randrange(step))}}))
                if step == 7:
                    server.drop(launcher("v1", "n1"))
                last = {kind: int(events[-1]["object"]["metadata"]["resourceVersion"]) for kind, events in server.events.items() if events}
                scene = await settled(mirror, {"a": Ledger(shown_at=last)})
                fresh = Scene(server.read())
                assert scene.snapshots["a"].vms == fresh.snapshots["a"].vms
                assert scene.snapshots["a"].hosts == fresh.snapshots["a"].hosts
                assert scene.snapshots["a"].remarks == fresh.snapshots["a"].remarks
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    for seed in range(2):
        asyncio.run(play(Random(seed)))


def test_a_mirror_that_has_not_come_as_far_as_the_ledger_demands_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "PATIENCE_SECONDS", 0.05)

    async def play() -> None:
        server = filled()
        mirror = Mirror(server)  # type: ignore[arg-type]
        assert await mirror.near({}, [START]) is None, "nothing has been listed yet"
        task = asyncio.create_task(mirror.run())
        try:
            assert await settled(mirror, {}) is not None
            ahead = {"a": Ledger(shown_at={"Pod": server.version + 1})}
            assert await mirror.near(ahead, [START]) is None
            server.put(launcher("v9", "n2"))
            assert await settled(mirror, ahead) is not None
            assert await mirror.near({}, [PROTECT]) is None, "not a start"
            now = under_test.time.monotonic() + under_test.SILENCE_SECONDS + 1
            monkeypatch.setattr(under_test.time, "monotonic", lambda: now)
            assert not mirror._reached(())
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(play())
