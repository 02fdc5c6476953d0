"""From a certificate to a Failover object, and from the object to the state of the workflow and back."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from aiohttp import web

from quorate_api import failover as api_failover
from quorate_api.hahost import HAHost
from quorate_controller import failover
from quorate_controller.failover import records
from quorate_controller.failover.certificates import standing
from quorate_controller.observe import observe
from quorate_controller.translate import snapshot_of
from quorate_controller.turn import FailoverSummary, Turn
from quorate_core.facts import Pool, Protection, Snapshot
from quorate_core.failover_facts import DeadHost, Failover, Hold, Observation, Restart, RestartStage, Stage, Standing
from quorate_planner import plan

from ..objects import Json, hahost, launcher, node, pool, protected_vm, vm, vmi
from ..scripted_api import ScriptedApi

QUORATE = "/apis/quorate.dev/v1alpha1"
KUBEVIRT = "/apis/kubevirt.io/v1/namespaces/ns"
DEAD = "a" * 16
NOW = datetime(2030, 1, 1, tzinfo=UTC)
NAME = f"{QUORATE}/failovers/n1-aaaaaaaa"


def certificate(**changes: object) -> Json:
    made = {
        "host": "n1",
        "incarnation": DEAD,
        "issuedBy": "n2",
        "evidence": "slot 0 did not change for 60 s",
        "silentSeconds": 60.0,
        "boundSeconds": 59.0,
        "issuedAt": "2030-01-01T00:00:00Z",
    }
    return made | changes


def store(api: ScriptedApi, *, issued: Json | None = None, node_boot: str = "boot-1", phase: str = "Armed", **pool_spec: object) -> None:
    """n1 with one protected VM was armed under boot-1; n2 and n3 survive, and n2 has issued a certificate."""
    api.put(f"{QUORATE}/hapools/a", pool(phase=phase, **pool_spec))
    for name, boot in (("n1", node_boot), ("n2", "boot-2"), ("n3", "boot-3")):
        obj = node(name)
        obj["status"]["nodeInfo"] = {"bootID": boot}
        api.put(f"/api/v1/nodes/{name}", obj)
    for name, life in (("n1", DEAD), ("n2", "b" * 16), ("n3", "c" * 16)):
        host = hahost(name)
        sees = ["n2", "n3"] if name != "n1" else ["n1", "n2", "n3"]
        host["status"]["agent"] |= {"incarnation": life, "bootId": f"boot-{name[1]}", "storage": {"ok": True, "sees": sees}}
        if name == "n2" and issued is not None:
            host["status"]["agent"]["certificates"] = [issued]
        api.put(f"{QUORATE}/hahosts/{name}", host)
    api.put(f"{KUBEVIRT}/virtualmachines/v", vm("v"))
    api.put(f"{KUBEVIRT}/virtualmachineinstances/v", vmi("v", "n1"))
    wish = protected_vm("v", priority=3)
    wish["status"] = {"host": "n1", "plannedHost": "n3"}
    api.put(f"{QUORATE}/namespaces/ns/protectedvms/v", wish)
    api.put("/api/v1/namespaces/ns/pods/virt-launcher-v-x", launcher("v", "n1"))


def held(request: web.Request) -> web.StreamResponse | None:
    if request.query.get("dryRun") == "All":
        return web.json_response({"metadata": {}, "spec": {"schedulingGates": [{"name": "quorate.dev/recovery"}]}})
    return None


def advance(api: ScriptedApi, turns: int = 1) -> FailoverSummary:
    async def play() -> FailoverSummary:
        summary = FailoverSummary()
        async with api.serving(), api.client() as client:
            api.script = held
            for _ in range(turns):
                observed = await observe(client)
                snapshot = snapshot_of(observed, "a")
                turn = Turn(client, observed, {"a": snapshot}, {"a": plan(snapshot)}, NOW, 0.0, lambda *_: None)  # type: ignore[arg-type]
                summary = await failover.advance(turn)
        return summary

    return asyncio.run(play())


def test_a_certified_death_is_recorded_with_its_generation_its_plan_and_the_pods_uid_before_the_pod_is_deleted() -> None:
    api = ScriptedApi()
    store(api, issued=certificate())
    assert advance(api).recovering == {"a"}
    assert api.objects[f"{QUORATE}/hahosts/n1"]["status"]["certificate"]["issuedBy"] == "n2"
    assert api.objects[f"{QUORATE}/hahosts/n1"]["status"]["phase"] == "Fenced"
    status = api.objects[f"{QUORATE}/hapools/a"]["status"]
    assert (status["phase"], status["failoverGeneration"]) == ("Recovering", 1)
    spec = api.objects[NAME]["spec"]
    assert (spec["generation"], spec["bootId"], spec["incarnation"]) == (1, "boot-1", DEAD)
    (restart,) = spec["restarts"]
    assert (restart["vm"], restart["uid"], restart["plannedHost"], restart["priority"]) == ("ns/v", "pod-v-x", "n3", 3)
    writes = [path for method, path in api.requests if method in ("POST", "PATCH", "PUT", "DELETE")]
    pool_at, failover_at = writes.index(f"{QUORATE}/hapools/a/status"), writes.index(f"{QUORATE}/failovers")
    assert pool_at < failover_at < writes.index("/api/v1/namespaces/ns/pods/virt-launcher-v-x")


def test_the_same_death_is_taken_up_once() -> None:
    api = ScriptedApi()
    store(api, issued=certificate())
    advance(api, turns=3)
    assert api.objects[f"{QUORATE}/hapools/a"]["status"]["failoverGeneration"] == 1
    assert [path for path in api.objects if "/failovers/" in path] == [NAME]


@pytest.mark.parametrize(
    "changes",
    [
        {"issued": None},
        {"issued": certificate(incarnation="d" * 16)},
        {"issued": certificate(silentSeconds=58.0)},
        {"issued": certificate(boundSeconds=20.0, silentSeconds=21.0)},
        {"issued": certificate(), "node_boot": "boot-9"},
        {"issued": certificate(), "enabled": False},
        {"issued": certificate(), "pausedUntil": "2031-01-01T00:00:00Z"},
    ],
    ids=["none", "stale", "too early", "shorter bound", "rebooted", "disarmed", "paused"],
)
def test_without_a_certificate_that_counts_nothing_is_touched(changes: Json) -> None:
    api = ScriptedApi()
    store(api, **changes)
    assert advance(api, turns=2).recovering == frozenset()
    assert [path for path in api.objects if "/failovers/" in path] == []
    assert "/api/v1/namespaces/ns/pods/virt-launcher-v-x" in api.objects
    assert api.objects["/api/v1/nodes/n1"]["spec"].get("taints") is None


def test_a_node_that_is_not_ready_is_no_reason_for_anything() -> None:
    api = ScriptedApi()
    store(api)
    api.objects["/api/v1/nodes/n1"]["status"]["conditions"] = [{"type": "Ready", "status": "Unknown"}]
    assert advance(api, turns=2).recovering == frozenset()
    assert {method for method, _ in api.requests} == {"GET"}


def test_a_vm_that_migrates_to_the_dead_host_is_not_restarted() -> None:
    api = ScriptedApi()
    store(api, issued=certificate())
    api.put(f"{KUBEVIRT}/virtualmachineinstances/v", vmi("v", "n2"))
    advance(api)
    assert api.objects[NAME]["spec"]["restarts"] == []


def gated_pod() -> Json:
    return launcher("v", None, phase="Pending", schedulingGates=[{"name": "quorate.dev/recovery"}])


def lifted_in_a_turn(prepare: Callable[[ScriptedApi], None], *, readable: bool = True) -> bool:
    api, patches = ScriptedApi(), []
    store(api)
    api.put("/api/v1/namespaces/ns/pods/virt-launcher-v-x", gated_pod())
    prepare(api)

    def script(request: web.Request) -> web.StreamResponse | None:
        if request.method == "PATCH" and "/pods/" in request.path:
            patches.append(request.path)
            return web.json_response({})
        return None

    async def play() -> None:
        async with api.serving(), api.client() as client:
            api.script = script
            observed = await observe(client)
            snapshots = {"a": snapshot_of(observed, "a")} if readable else {}
            await failover.advance(Turn(client, observed, snapshots, {}, NOW, 0.0, lambda *_: None))  # type: ignore[arg-type]

    asyncio.run(play())
    return bool(patches)


def test_a_gate_that_outlived_its_recovery_is_lifted() -> None:
    assert lifted_in_a_turn(lambda api: None)


def recovering(api: ScriptedApi) -> None:
    spec = {"pool": "a", "host": "n1", "incarnation": DEAD, "bootId": "boot-1", "generation": 1, "certificate": certificate()}
    restart = {"vm": "ns/v", "uid": "old", "pod": "old", "protection": "Protected", "sizeBytes": 1 << 60}
    api.put(NAME, {"metadata": {"name": "n1-aaaaaaaa", "uid": "f"}, "spec": {**spec, "restarts": [restart]}})


def test_a_gate_is_not_swept_away_while_its_pool_recovers() -> None:
    assert not lifted_in_a_turn(recovering)


def test_a_gate_does_not_wait_for_a_recovering_pool_that_cannot_be_read() -> None:
    assert lifted_in_a_turn(recovering, readable=False)


def test_a_vm_with_a_pod_left_on_a_dead_host_is_not_let_go_even_when_its_pool_cannot_be_read() -> None:
    def with_old_pod(api: ScriptedApi) -> None:
        recovering(api)
        api.put("/api/v1/namespaces/ns/pods/virt-launcher-v-old", launcher("v", "n1", suffix="old"))

    assert not lifted_in_a_turn(with_old_pod, readable=False)


def test_the_words_of_the_state_are_those_of_the_api() -> None:
    assert {s.value for s in Stage} == {p.value for p in api_failover.FailoverPhase}
    assert {s.value for s in RestartStage} == {p.value for p in api_failover.RestartPhase}


@pytest.mark.parametrize("hold", list(Hold))
@pytest.mark.parametrize("stage", list(Stage))
def test_a_state_survives_being_written_and_read(hold: Hold, stage: Stage) -> None:
    restart = Restart(
        "ns/v", "u", "p", Protection.BEST_EFFORT, 4, 5, 6, "n3", RestartStage.BLOCKED, "n2", 7, "no room", NOW, NOW, NOW, NOW, NOW
    )
    state = Failover("f", "a", "n1", DEAD, 2, NOW, "boot-1", (restart,), stage, hold, NOW, NOW)
    seen = Observation(NOW, Snapshot(Pool("a")), {"n1": DeadHost(Standing.DEAD)})
    status = records.status_of(state, api_failover.FailoverStatus(), seen)
    planned = api_failover.PlannedRestart(
        vm="ns/v", uid="u", pod="p", protection=Protection.BEST_EFFORT, priority=4, start_delay_seconds=5, size_bytes=6, planned_host="n3"
    )
    record = api_failover.Failover.model_validate(
        {
            "metadata": {"name": "f"},
            "spec": {
                "pool": "a",
                "host": "n1",
                "incarnation": DEAD,
                "bootId": "boot-1",
                "generation": 2,
                "certificate": certificate(),
                "restarts": [planned.to_json()],
            },
            "status": status.to_json(),
        }
    )
    assert records.state_of(record) == state
    assert records.status_of(records.state_of(record), record.status, replace(seen, now=datetime(2031, 1, 1, tzinfo=UTC))) == status


def test_a_host_is_dead_only_while_certificate_agent_and_node_all_tell_of_the_same_life() -> None:
    host = HAHost.model_validate(
        {
            "metadata": {"name": "n1"},
            "spec": {"pool": "a"},
            "status": {"agent": {"incarnation": DEAD, "bootId": "boot-1"}, "certificate": certificate()},
        }
    )

    def with_agent(**agent: object) -> HAHost:
        status = host.status.model_copy(update={"agent": host.status.agent and host.status.agent.model_copy(update=agent)})
        return host.model_copy(update={"status": status})

    def stands(host: HAHost | None, boot_id: str | None = "boot-1", *, exists: bool = True, node_boot: str | None = "boot-1") -> Standing:
        return standing(host, DEAD, boot_id, node_exists=exists, node_boot_id=node_boot)

    assert stands(host) is Standing.DEAD
    assert stands(host, exists=False, node_boot=None) is Standing.DEAD
    assert stands(None, exists=False, node_boot=None) is Standing.DEAD
    assert stands(host, node_boot="boot-2") is Standing.RETURNED
    assert stands(with_agent(incarnation="b" * 16, boot_id="boot-2")) is Standing.RETURNED
    assert stands(with_agent(incarnation="b" * 16)) is Standing.DOUBT, "a new agent under the old boot"
    assert stands(with_agent(incarnation=None)) is Standing.DOUBT
    assert stands(host, node_boot=None) is Standing.DEAD, "a Node that names no boot has no kubelet that could run a VM"
    assert stands(host, boot_id=None) is Standing.DOUBT
    assert stands(None) is Standing.DOUBT
    uncertified = host.model_copy(update={"status": host.status.model_copy(update={"certificate": None})})
    assert stands(uncertified) is Standing.DOUBT
