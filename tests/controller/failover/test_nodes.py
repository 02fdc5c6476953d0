"""A dead host's Node: a new boot stops what destroys, and a taint that nobody waits for is lifted by the boot it was meant for."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from quorate_controller.failover import actuate, nodes
from quorate_controller.observe import observe
from quorate_controller.turn import Turn
from quorate_core.failover_facts import Action, DeletePod, Taint, Untaint

from ..objects import Json, launcher, node
from ..scripted_api import ScriptedApi

NODE = "/api/v1/nodes/n1"
POD = "/api/v1/namespaces/ns/pods/virt-launcher-v-x"
OUT = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


def host(boot_id: str | None, *, marked: str | None = None, tainted: bool = False) -> Json:
    obj = node("n1", taints=[OUT] if tainted else None)
    obj["status"]["nodeInfo"] = {"bootID": boot_id} if boot_id else {}
    if marked:
        obj["metadata"]["annotations"] = {nodes.TAINTED_BOOT: marked}
    return obj


def play(api: ScriptedApi, actions: Sequence[Action] = (), *, sweep: bool = False) -> None:
    async def run() -> None:
        async with api.serving(), api.client() as client:
            turn = Turn(client, await observe(client), {}, {}, datetime.now(UTC), time.monotonic(), lambda *_: None)
            await actuate.perform(turn, actions, time.monotonic(), {"n1": "boot-1"})
            if sweep:
                await nodes.lift_forgotten(turn)

    asyncio.run(run())


@pytest.mark.parametrize(("boot_id", "left"), [("boot-1", False), (None, False), ("boot-2", True)])
def test_a_host_that_boots_between_the_look_and_the_act_keeps_its_pods_and_its_service(boot_id: str | None, left: bool) -> None:
    api = ScriptedApi()
    api.put(NODE, host(boot_id))
    api.put(POD, launcher("v", "n1"))
    play(api, [Taint("n1", evict=True), DeletePod("ns/v", "virt-launcher-v-x", "pod-v-x", "n1", force=True)])
    assert (POD in api.objects) is left
    assert ("taints" not in api.objects[NODE]["spec"]) is left


def test_an_orderly_deletion_is_done_on_a_host_that_has_booted_anew() -> None:
    api = ScriptedApi()
    api.put(NODE, host("boot-2"))
    api.put(POD, launcher("v", "n1"))
    play(api, [DeletePod("ns/v", "virt-launcher-v-x", "pod-v-x", "n1", force=False)])
    assert POD not in api.objects


def test_a_taint_names_the_boot_that_it_is_meant_for_and_takes_the_name_along() -> None:
    api = ScriptedApi()
    api.put(NODE, host("boot-1"))
    play(api, [Taint("n1", evict=True)])
    assert api.objects[NODE]["metadata"]["annotations"] == {nodes.TAINTED_BOOT: "boot-1"}
    play(api, [Untaint("n1")])
    assert api.objects[NODE]["metadata"]["annotations"] == {}
    assert "taints" not in api.objects[NODE]["spec"]


@pytest.mark.parametrize(
    ("obj", "failover", "tainted"),
    [
        (host("boot-2", marked="boot-1", tainted=True), None, False),
        (host("boot-2", marked="boot-1", tainted=True), {"hostReturnedAt": "2030-01-01T00:00:00Z"}, False),
        (host("boot-2", marked="boot-1", tainted=True), {}, True),
        (host("boot-1", marked="boot-1", tainted=True), None, True),
        (host(None, marked="boot-1", tainted=True), None, True),
        (host("boot-2", tainted=True), None, True),
    ],
    ids=["its failover is gone", "its failover is finished", "its failover waits", "not back", "boot unknown", "somebody else's taint"],
)
def test_only_quorates_taint_of_a_boot_that_is_over_and_that_no_failover_waits_for_is_swept(
    obj: Json, failover: Json | None, tainted: bool
) -> None:
    api = ScriptedApi()
    api.put(NODE, obj)
    if failover is not None:
        path = "/apis/quorate.dev/v1alpha1/failovers/n1-aaaaaaaa"
        api.put(path, {"metadata": {"name": "n1-aaaaaaaa"}, "spec": {"pool": "a", "host": "n1"}, "status": failover})
    play(api, sweep=True)
    assert (api.objects[NODE]["spec"].get("taints") == [OUT]) is tainted
