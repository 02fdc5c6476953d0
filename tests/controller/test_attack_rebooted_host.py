"""Attack: a host whose old life is certified dead, but which has booted again and serves, while its agent has not reported its new life."""

import asyncio
from datetime import UTC, datetime

from aiohttp import web

from quorate_controller import failover
from quorate_controller.events import Events
from quorate_controller.reconcile import Loop
from quorate_controller.settings import Settings
from quorate_controller.triggers import Bell

from .objects import Json, hahost, launcher, node, pool, vm, vmi
from .scripted_api import ScriptedApi
from .test_reconcile import NoLedger

QUORATE = "/apis/quorate.dev/v1alpha1"
OLD_LIFE = "aaaaaaaaaaaaaaaa"
POD = "/api/v1/namespaces/ns/pods/virt-launcher-v-x"


def certificate() -> Json:
    return {
        "host": "n1", "incarnation": OLD_LIFE, "issuedBy": "n2", "evidence": "slot 0 did not change", "silentSeconds": 60.0,
        "boundSeconds": 59.0, "issuedAt": datetime.now(UTC).isoformat(),
    }  # fmt: skip


def store(api: ScriptedApi, *, boot_id_of_node: str) -> None:
    """n1 was armed under boot-1 and is certified dead; its Node shows the given boot, and a launcher pod runs on it."""
    for name, boot in (("n1", boot_id_of_node), ("n2", "boot-of-n2")):
        obj = node(name)
        obj["status"]["nodeInfo"] = {"bootID": boot}
        api.put(f"/api/v1/nodes/{name}", obj)
    api.put(f"{QUORATE}/hapools/a", pool(phase="Armed"))
    dead, survivor = hahost("n1", slot=0), hahost("n2", slot=1)
    dead["status"]["agent"] |= {"incarnation": OLD_LIFE, "bootId": "boot-1"}
    survivor["status"]["agent"] |= {"incarnation": "b" * 16, "bootId": "boot-of-n2", "certificates": [certificate()]}
    api.put(f"{QUORATE}/hahosts/n1", dead)
    api.put(f"{QUORATE}/hahosts/n2", survivor)
    api.put("/apis/kubevirt.io/v1/namespaces/ns/virtualmachines/v", vm("v", labels={"quorate.dev/protection": "Protected"}))
    api.put("/apis/kubevirt.io/v1/namespaces/ns/virtualmachineinstances/v", vmi("v", "n1"))
    api.put(POD, launcher("v", "n1"))


def held(request: web.Request) -> web.StreamResponse | None:
    """The dry run that asks whether launcher pods are held: yes."""
    if request.query.get("dryRun") == "All":
        return web.json_response({"metadata": {"name": "probe"}, "spec": {"schedulingGates": [{"name": "quorate.dev/recovery"}]}})
    return None


def pod_is_left_after_turns(boot_id_of_node: str) -> bool:
    async def play() -> bool:
        async with ScriptedApi().serving() as api, api.client() as client:
            api.script = held
            store(api, boot_id_of_node=boot_id_of_node)
            loop = Loop(client, Settings(identity="t"), Bell(), Events(client, "t"), NoLedger(), failover.advance, failover.judge)
            for _ in range(4):
                await loop.turn()
            return POD in api.objects

    return asyncio.run(play())


def test_the_pod_of_a_host_that_is_dead_and_has_not_booted_again_is_freed() -> None:
    assert not pod_is_left_after_turns("boot-1")


def test_a_pod_that_runs_on_a_host_that_has_booted_again_is_never_deleted_by_force() -> None:
    assert pod_is_left_after_turns("boot-2"), "deleted with grace 0 on a living kubelet: KubeVirt starts a second copy"
