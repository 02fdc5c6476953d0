"""The acts of a failover against a scripted API: each is safe to repeat, names what it expects, and stops no other."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from quorate_controller.failover import actuate, gates
from quorate_controller.observe import Observed
from quorate_controller.turn import Turn
from quorate_core.failover_facts import Action, DeletePod, DiscardPod, LiftGate, Say, StartVm, Taint, Untaint

from ..objects import Json, launcher, node, vm
from ..scripted_api import ScriptedApi, status

POD = "/api/v1/namespaces/ns/pods/virt-launcher-v-x"
GATE = [{"name": "quorate.dev/recovery"}]
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def do(api: ScriptedApi, actions: Sequence[Action], tell: Callable[..., None] = lambda *_: None, observed: Observed | None = None) -> None:
    async def play() -> None:
        async with api.serving(), api.client() as client:
            turn = Turn(client, observed or Observed(), {}, {}, datetime.now(UTC), time.monotonic(), tell)
            await actuate.perform(turn, actions, time.monotonic())

    asyncio.run(play())


def changes(api: ScriptedApi) -> list[str]:
    return [method for method, _ in api.requests if method != "GET"]


def test_a_taint_is_put_once_beside_others_and_taken_off_alone() -> None:
    api = ScriptedApi()
    foreign = {"key": "theirs", "effect": "NoSchedule"}
    api.put("/api/v1/nodes/n1", node("n1", taints=[foreign]))
    out = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}
    do(api, [Taint("n1", evict=True), Taint("n1", evict=True)])
    assert api.objects["/api/v1/nodes/n1"]["spec"]["taints"] == [foreign, out]
    assert len(changes(api)) == 1
    do(api, [Untaint("n1"), Untaint("n1")])
    assert api.objects["/api/v1/nodes/n1"]["spec"]["taints"] == [foreign]
    assert len(changes(api)) == 2


def test_a_weak_taint_becomes_the_strong_one() -> None:
    api = ScriptedApi()
    api.put("/api/v1/nodes/n1", node("n1"))
    do(api, [Taint("n1", evict=False), Taint("n1", evict=True)])
    assert [t["effect"] for t in api.objects["/api/v1/nodes/n1"]["spec"]["taints"]] == ["NoExecute"]


def test_a_pod_of_the_same_name_but_another_uid_is_not_deleted() -> None:
    api = ScriptedApi()
    api.put(POD, launcher("v", "n2"))
    do(api, [DeletePod("ns/v", "virt-launcher-v-x", "older", "n1", force=True), DiscardPod("ns/v", "virt-launcher-v-x", "older")])
    assert POD in api.objects


def test_grace_is_zero_only_where_the_deletion_is_forced() -> None:
    bodies: list[Json] = []

    def script(request: web.Request) -> web.StreamResponse | None:
        return None

    api = ScriptedApi()
    api.script = script
    answer = api._answer

    async def record(request: web.Request) -> web.StreamResponse:
        if request.method == "DELETE":
            bodies.append(await request.json())
        return await answer(request)

    api._answer = record  # type: ignore[method-assign]  # to see the bodies
    for force in (True, False):
        api.put(POD, launcher("v", "n1"))
        do(api, [DeletePod("ns/v", "virt-launcher-v-x", "pod-v-x", "n1", force=force)])
        assert POD not in api.objects
    assert [body.get("gracePeriodSeconds") for body in bodies] == [0, None]
    assert all(body["preconditions"] == {"uid": "pod-v-x"} for body in bodies)


def test_a_pod_that_was_bound_meanwhile_is_not_discarded() -> None:
    api = ScriptedApi()
    api.put(POD, launcher("v", "n2"))
    do(api, [DiscardPod("ns/v", "virt-launcher-v-x", "pod-v-x")])
    assert changes(api) == []


def test_lifting_a_gate_tests_uid_and_version_and_narrows_to_the_host() -> None:
    api = ScriptedApi()
    stored = api.put(POD, launcher("v", None, schedulingGates=GATE))
    ops = gates.lift_patch(stored, "n2")
    assert [op["path"] for op in ops if op["op"] == "test"] == ["/metadata/uid", "/metadata/resourceVersion"]
    assert {"op": "remove", "path": "/spec/schedulingGates"} in ops
    assert ops[-1]["value"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"] == [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]}
    ]


def test_the_gates_of_others_stay_and_every_alternative_of_the_pods_own_affinity_is_narrowed() -> None:
    terms = [{"matchExpressions": [{"key": "a", "operator": "Exists"}]}, {"matchExpressions": [{"key": "b", "operator": "Exists"}]}]
    anti = {"podAntiAffinity": {"x": 1}}
    pod = launcher(
        "v", None, schedulingGates=[*GATE, {"name": "theirs"}], affinity={**anti, "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": terms}}}
    )
    pod["metadata"]["resourceVersion"] = "1"
    ops = gates.lift_patch(pod, "n2")
    assert {"op": "replace", "path": "/spec/schedulingGates", "value": [{"name": "theirs"}]} in ops
    affinity = ops[-1]["value"]
    assert affinity["podAntiAffinity"] == anti["podAntiAffinity"]
    narrowed = affinity["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert [t["matchExpressions"] for t in narrowed] == [t["matchExpressions"] for t in terms]
    assert all(t["matchFields"][0]["values"] == ["n2"] for t in narrowed)


def test_without_a_host_the_affinity_is_left_alone() -> None:
    pod = launcher("v", None, schedulingGates=GATE)
    pod["metadata"]["resourceVersion"] = "1"
    assert all(op["path"] != "/spec/affinity" for op in gates.lift_patch(pod, None))


@pytest.mark.parametrize("change", ["gone", "another uid", "already lifted"])
def test_a_gate_that_is_not_there_any_more_is_not_lifted(change: str) -> None:
    api = ScriptedApi()
    if change != "gone":
        api.put(POD, launcher("v", None, **({} if change == "already lifted" else {"schedulingGates": GATE})))
    do(api, [LiftGate("ns/v", "virt-launcher-v-x", "older" if change == "another uid" else "pod-v-x", "n2")])
    assert changes(api) == []


def test_a_start_that_kubevirt_answers_with_a_conflict_stops_nothing() -> None:
    api = ScriptedApi()
    api.put(POD, launcher("v", "n1"))
    api.script = lambda request: status(409, "Conflict", "VM is already running") if request.path.endswith("/start") else None
    do(api, [StartVm("ns/m"), DeletePod("ns/v", "virt-launcher-v-x", "pod-v-x", "n1", force=True)])
    assert POD not in api.objects


def test_people_are_told_on_the_object_that_they_look_at() -> None:
    told: list[tuple[Any, ...]] = []
    say = Say("n1", "ns/v", "VMRestartBlocked", "no host has 1.00 GiB free", warning=True)
    do(ScriptedApi(), [say], lambda *words: told.append(words), Observed(vms=(vm("v"),)))
    assert [(words[0]["metadata"]["name"], *words[1:]) for words in told] == [("v", say.reason, say.message, "Warning")]


@pytest.mark.parametrize(
    ("answer", "held"),
    [
        (lambda: web.json_response({"metadata": {}, "spec": {"schedulingGates": GATE}}), True),
        (lambda: web.json_response({"metadata": {}, "spec": {"containers": []}}), False),
        (lambda: status(403, "Forbidden", "pods is forbidden"), None),
        (lambda: status(500, "InternalError", "failed calling webhook"), None),
    ],
)
def test_whether_new_pods_are_held_is_asked_by_a_dry_run_and_not_knowing_is_an_answer(
    answer: Callable[[], web.Response], held: bool | None
) -> None:
    async def play() -> bool | None:
        async with ScriptedApi().serving() as api, api.client() as client:
            api.script = lambda request: answer() if request.query.get("dryRun") == "All" else None
            return await gates.probe(client, "quorate-system")

    assert asyncio.run(play()) is held
