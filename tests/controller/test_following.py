"""What is followed change by change is what a translation of everything says."""

from dataclasses import replace
from random import Random

import pytest

from quorate_controller import following as under_test
from quorate_controller.following import Following
from quorate_controller.kube import Json
from quorate_controller.observe import Observed
from quorate_controller.translate import snapshot_from
from quorate_controller.world import World, world_of
from quorate_core.facts import Snapshot
from tests.controller.objects import claim, hahost, launcher, node, pod, pool, protected_vm, vm, vmi, volume

NAMES = ("v1", "v2", "v3", "v4")
HOSTS = ("n1", "n2", "n3")
PLURALS = {
    "Node": "nodes",
    "Pod": "pods",
    "VirtualMachine": "vms",
    "VirtualMachineInstance": "vmis",
    "ProtectedVM": "protectedvms",
    "HAPool": "hapools",
    "HAHost": "hahosts",
    "PersistentVolumeClaim": "pvcs",
    "PersistentVolume": "pvs",
}
APART = {
    "affinity": {
        "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "db"}}}
            ]
        }
    }
}


def a_change(dice: Random) -> tuple[Json, bool]:
    """An object as it is now, or one that is deleted."""
    name, host = dice.choice(NAMES), dice.choice(HOSTS)
    obj: Json = dice.choice(
        [
            lambda: vm(name, dice.choice(["1Gi", "2Gi", "broken"]), strategy=dice.choice(["Always", "Halted"])),
            lambda: vm(name, labels={"quorate.dev/protection": dice.choice(["Protected", "BestEffort", "wrong"])}),
            lambda: vm(name, template={"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "disk"}}]}),
            lambda: {**(found := vm(name, template=APART)), "spec": labelled(found["spec"])},
            lambda: vmi(name, host, dice.choice(["Running", "Failed"]), guest=dice.choice(["1Gi", "3Gi"])),
            lambda: launcher(name, dice.choice([host, None]), phase=dice.choice(["Running", "Succeeded"])),
            lambda: launcher(name, host, dice.choice(["2Gi", "nonsense"]), suffix="y"),
            lambda: pod(f"other-{name}", host, dice.choice(["1Gi", "2Gi"])),
            lambda: protected_vm(name, dice.choice(NAMES), dice.choice(["Protected", "Unprotected", "Wrong"])),
            lambda: {**protected_vm(f"{name}-more", name), "status": {"pool": "a", "zone": dice.randrange(2)}},
            lambda: {**protected_vm(f"{name}-more", name), "status": {"pool": "a", "restartHosts": dice.sample(HOSTS, 2)}},
            lambda: {**pool(), "status": {"zones": [{"kind": dice.choice(["any", "lists"])}]}},
            lambda: hahost(host, phase=dice.choice(["Live", "Fenced", "Lost"])),
            lambda: node(host, dice.choice(["32Gi", "16Gi"]), labels=dice.choice([{}, {"rack": "r1"}])),
            lambda: pool(tolerate=dice.randrange(3)),
            lambda: pool("b", selector={"rack": "r1"}),
            lambda: claim("disk", "pv", dice.choice(["ReadWriteOnce", "ReadWriteMany"])),
            lambda: volume("pv", dice.choice(["ReadWriteOnce", "ReadWriteMany"])),
        ]
    )()
    return obj, dice.random() < 0.25


def labelled(spec: Json) -> Json:
    return {**spec, "template": {**spec["template"], "metadata": {"labels": {"app": "db"}}}}


def after(observed: Observed, obj: Json, deleted: bool) -> Observed:
    field = PLURALS[obj["kind"]]
    name = (obj["metadata"].get("namespace"), obj["metadata"]["name"])
    others = [o for o in getattr(observed, field) if (o["metadata"].get("namespace"), o["metadata"]["name"]) != name]
    found = sorted([*others, *(() if deleted else (obj,))], key=lambda o: o["metadata"]["name"])
    return replace(observed, **{field: tuple(found)})  # type: ignore[arg-type]


def snapshots(world: World) -> dict[str, Snapshot]:
    """Every pool's; the order of remarks says nothing."""
    found = {name: snapshot_from(world, name) for name in world.membership.nodes}
    return {name: replace(s, remarks=tuple(sorted(s.remarks))) for name, s in found.items()}


def play(seed: int, changes: int = 60) -> None:
    dice, following = Random(seed), Following()
    observed = Observed(nodes=tuple(node(name) for name in HOSTS), hapools=(pool(),), hahosts=tuple(hahost(name) for name in HOSTS))
    for _ in range(changes):
        for _ in range(dice.choice([1, 1, 1, 3])):
            observed = after(observed, *a_change(dice))
        assert snapshots(following.world(observed)) == snapshots(world_of(observed)), f"seed {seed}"


@pytest.mark.parametrize("seed", range(12))
def test_after_any_changes_it_says_what_a_translation_of_everything_says(seed: int) -> None:
    play(seed)


def test_a_change_that_is_overlooked_is_caught_by_this_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Following, "_move", lambda self, old, new: set())
    with pytest.raises(AssertionError):
        play(1)
    monkeypatch.undo()
    monkeypatch.setattr(under_test, "_around", lambda world: None)
    with pytest.raises(AssertionError):
        play_all()


def play_all() -> None:
    for seed in range(12):
        play(seed)


def test_what_has_not_changed_is_not_translated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"v{number}" for number in range(50)]
    observed = Observed(
        nodes=tuple(node(name) for name in HOSTS),
        hapools=(pool(),),
        hahosts=tuple(hahost(name) for name in HOSTS),
        vms=tuple(vm(name) for name in names),
        protectedvms=tuple(protected_vm(name) for name in names),
    )
    following = Following()
    first = snapshot_from(following.world(observed), "a")
    second = snapshot_from(following.world(after(observed, vm("v7", "2Gi"), deleted=False)), "a")
    assert [a.key for a, b in zip(first.vms, second.vms, strict=True) if a is not b] == ["ns/v7"]
