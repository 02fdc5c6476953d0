"""The Node of a dead host: which boot it shows, and its out-of-service taint.

A Node is written by its kubelet, so it tells of a new boot before any agent does. A taint that Quorate puts carries, as an annotation,
the boot that it is meant for: whoever finds it after that boot is over may take it off, even when the failover is forgotten.
"""

import logging

from quorate_controller import kube
from quorate_controller.kube import Json, Kube
from quorate_controller.memory import dig
from quorate_controller.turn import Turn

log = logging.getLogger(__name__)

TAINT_KEY = "node.kubernetes.io/out-of-service"
TAINT_VALUE = "nodeshutdown"
TAINTED_BOOT = "quorate.dev/out-of-service-boot"


def boot_of(node: Json | None) -> str | None:
    """The boot id that the Node shows; None when there is no Node or it says nothing."""
    return dig(node, "status", "nodeInfo").get("bootID") or None


def shows_another_boot(node: Json | None, boot_id: str | None) -> bool:
    """Whether the Node names a boot other than the given one. Silence is no other boot.

    A kubelet names its boot with its first status, which is also what first makes the Node Ready; so a Node that names none has no
    kubelet that could have been given a VM, and a certified death stands.
    """
    shown = boot_of(node)
    return shown is not None and shown != boot_id


async def set_taint(api: Kube, host: str, effect: str | None, boot_id: str | None = None) -> None:
    """Put the taint with that effect, for that boot of the host, or take it off. Raises `kube.Conflict` when the Node changed meanwhile."""
    node = await api.get(kube.NODES, host)
    if node is None:
        return
    present = [t for t in _taints(node) if t.get("key") == TAINT_KEY]
    if effect is None and not present and _tainted_boot(node) is None:
        return
    if effect is not None and any(t.get("effect") == effect for t in present):
        return
    if effect is not None and boot_id is not None and shows_another_boot(node, boot_id):
        log.info("%s: not tainted, it has booted anew", host)
        return
    await _write(api, node, effect, boot_id)


async def lift_forgotten(turn: Turn) -> None:
    """Lift the taints of hosts that are back by their boot while no failover waits for them any more: people may delete its object."""
    awaited = {dig(f, "spec").get("host") for f in turn.observed.failovers if not dig(f, "status").get("hostReturnedAt")}
    for seen in turn.observed.nodes:
        name = seen["metadata"]["name"]
        if name in awaited or not _is_over(seen):
            continue
        try:
            node = await turn.kube.get(kube.NODES, name)
            if node is not None and _is_over(node):
                await _write(turn.kube, node, None, None)
        except kube.KubeError as error:
            log.info("%s: its forgotten taint is not lifted, looking again: %s", name, error)


def _is_over(node: Json) -> bool:
    """Whether it is marked for a boot that is over."""
    boot_id = _tainted_boot(node)
    return boot_id is not None and shows_another_boot(node, boot_id)


def _tainted_boot(node: Json) -> str | None:
    return dig(node, "metadata", "annotations").get(TAINTED_BOOT)


def _taints(node: Json) -> list[Json]:
    return dig(node, "spec").get("taints") or []


async def _write(api: Kube, node: Json, effect: str | None, boot_id: str | None) -> None:
    """NB: a merge patch replaces the list as a whole; the resourceVersion makes that a compare-and-swap."""
    host = node["metadata"]["name"]
    taints = [t for t in _taints(node) if t.get("key") != TAINT_KEY]
    if effect is not None:
        taints.append({"key": TAINT_KEY, "value": TAINT_VALUE, "effect": effect})
    metadata: Json = {"resourceVersion": node["metadata"]["resourceVersion"]}
    mark = boot_id if effect is not None else None
    if mark != _tainted_boot(node):
        metadata["annotations"] = {TAINTED_BOOT: mark}
    await api.merge(kube.NODES, host, {"metadata": metadata, "spec": {"taints": taints or None}})
    log.info("%s: %s", host, f"tainted out of service ({effect})" if effect else "out-of-service taint lifted")
