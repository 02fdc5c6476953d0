"""Which HAHosts and ProtectedVMs exist: created for what is selected or labelled, followed, and removed without losing evidence."""

from quorate_api.hahost import HAHost
from quorate_controller.inventory import FROM_LABEL, Change, Create, Delete, address_of, host_steps, slots, vm_steps
from quorate_controller.membership import memberships
from quorate_controller.observe import Observed

from .objects import Json, hahost, node, pool, protected_vm, vm

LABEL = {"quorate.dev/protection": "Protected", "quorate.dev/priority": "2"}


def hosts(*objects: Json, hapools: tuple[Json, ...] = (pool(),), nodes: tuple[Json, ...] = (node("n1"),)) -> list[tuple[str, str]]:
    observed = Observed(hapools=hapools, nodes=nodes, hahosts=objects)
    steps = host_steps(observed, memberships(observed))
    return [(type(s).__name__, s.body["metadata"]["name"] if isinstance(s, Create) else s.current["metadata"]["name"]) for s in steps]


def test_an_hahost_is_created_for_a_selected_node_and_belongs_to_its_pool() -> None:
    observed = Observed(hapools=(pool(),), nodes=(node("n1"), node("n2", labels={"pool": "other"})))
    (step,) = host_steps(observed, memberships(observed))
    assert isinstance(step, Create)
    owner = {"apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool", "name": "a", "uid": "pool-a", "controller": True}
    assert step.body == {"metadata": {"name": "n1", "ownerReferences": [owner]}, "spec": {"pool": "a"}}


def test_an_hahost_goes_when_its_node_is_no_longer_selected_unless_it_is_armed() -> None:
    assert hosts(hahost("n1"), hahost("n2", armed=False)) == [("Delete", "n2")]
    assert hosts(hahost("n1"), hahost("n2", armed=True)) == []
    leaving = hahost("n2", armed=False)
    leaving["status"]["agent"]["state"] = "Disarming"
    assert hosts(hahost("n1"), leaving) == [], "its slot may not be another host's before its watchdog has let go"


def test_a_host_that_two_pools_select_gets_no_second_hahost_and_loses_none() -> None:
    both = (pool("a"), pool("b", selector={}))
    assert hosts(hapools=both) == []
    assert hosts(hahost("n1", armed=False), hapools=both) == []


def test_a_pool_that_cannot_be_read_keeps_its_hosts() -> None:
    assert hosts(hahost("n1", armed=False), hapools=(pool(tolerate=-1),)) == []


def test_slots_are_kept_unique_and_the_lowest_free_one_is_given() -> None:
    models = [
        HAHost.model_validate(h) for h in (hahost("n1", slot=1), hahost("n2"), hahost("n3", slot=1), hahost("n4"), hahost("x", "b", slot=0))
    ]
    assert slots("a", models) == {"n1": 1, "n2": 0, "n3": 2, "n4": 3}


def test_the_sixty_fifth_host_gets_no_slot() -> None:
    given = slots("a", [HAHost.model_validate(hahost(f"n{i:02}")) for i in range(65)])
    assert sorted(slot for slot in given.values() if slot is not None) == list(range(64))
    assert given["n64"] is None


def test_the_address_is_the_nodes_internal_one() -> None:
    assert address_of(node("n1")) == "10.0.0.7"
    assert address_of(None) is None


def test_a_label_creates_the_protected_vm_which_its_vm_owns() -> None:
    (step,), problems = vm_steps(Observed(vms=(vm("a", labels=LABEL),)))
    assert isinstance(step, Create)
    assert problems == []
    assert step.body["spec"] == {
        "vmRef": {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": "a"},
        "protection": "Protected",
        "priority": 2,
        "startDelaySeconds": 0,
    }
    assert step.body["metadata"]["ownerReferences"][0]["uid"] == "vm-a"


def followed(priority: int = 2) -> Json:
    obj = protected_vm("a", priority=priority)
    obj["metadata"]["annotations"] = {FROM_LABEL: "true"}
    return obj


def test_a_followed_label_changes_and_removes_its_protected_vm() -> None:
    assert vm_steps(Observed(vms=(vm("a", labels=LABEL),), protectedvms=(followed(),)))[0] == []
    (change,), _ = vm_steps(Observed(vms=(vm("a", labels=LABEL),), protectedvms=(followed(1),)))
    assert isinstance(change, Change)
    assert change.spec == {"protection": "Protected", "priority": 2}
    (delete,), _ = vm_steps(Observed(vms=(vm("a"),), protectedvms=(followed(),)))
    assert isinstance(delete, Delete)


def test_a_protected_vm_that_somebody_wrote_is_never_touched() -> None:
    assert vm_steps(Observed(vms=(vm("a"), vm("b", labels=LABEL)), protectedvms=(protected_vm("a"), protected_vm("mine", "b"))))[0] == []


def test_a_wrong_label_changes_nothing_and_says_so() -> None:
    steps, problems = vm_steps(Observed(vms=(vm("a", labels={"quorate.dev/protection": "Yes"}),), protectedvms=(followed(),)))
    assert steps == []
    assert problems == [
        "VirtualMachine ns/a: metadata.labels[quorate.dev/protection]: 'Yes' is not one of Protected, BestEffort, Unprotected"
    ]
