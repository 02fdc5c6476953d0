"""A small stand-in for what kubelet and virt-handler do on a node, for hosts without containers and without /dev/kvm.

It is not a kubelet: it keeps the Node's heartbeats, runs each launcher pod bound to its node as one real process that writes to
the VM's disk, moves the VMI from Scheduled to Running, and stops both when told. Pods without a VM only get the status Running.
When the API server cannot be reached, VMs run on. Live migration is not simulated: a target pod stays Pending.
In light mode one process stands in for many nodes, runs no launchers, and writes agent reports that say so.
"""

import argparse
import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from quorate_local import nodes
from quorate_local.guests import Guests
from quorate_local.watching import STALE, Client, Json, Refused

LEASE_SECONDS = 4.0
STATUS_EVERY = 4  # leases between two status writes
STEP_SECONDS = 0.25

log = logging.getLogger("standin")


@dataclass(slots=True)
class Node:
    """One node that is stood in for."""

    facts: nodes.Facts
    guests: Guests
    pods: dict[str, Json] = field(default_factory=dict)
    vmis: dict[str, Json] = field(default_factory=dict)


class StandIn:
    """kubelet and virt-handler of one or more nodes."""

    def __init__(self, client: Client, stood_for: list[Node], *, light: bool) -> None:
        self._client = client
        self._nodes = {node.facts.name: node for node in stood_for}
        self._light = light
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """For ever."""
        only = next(iter(self._nodes)) if len(self._nodes) == 1 else None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._beat())
            tasks.create_task(self._follow_pods(f"fieldSelector=spec.nodeName%3D{only}" if only else ""))
            tasks.create_task(self._follow_vmis(f"labelSelector=kubevirt.io/nodeName%3D{only}" if only else ""))
            tasks.create_task(self._act())
            if self._light:
                tasks.create_task(self._report())

    async def _beat(self) -> None:
        count = 0
        while True:
            for node in self._nodes.values():
                with contextlib.suppress(*STALE):
                    try:
                        if count % STATUS_EVERY == 0:
                            await nodes.write(self._client, node.facts)
                        await nodes.renew(self._client, node.facts)
                    except Refused as refused:
                        log.warning("node %s: %s", node.facts.name, refused)
            count += 1
            await asyncio.sleep(LEASE_SECONDS)

    async def _follow_pods(self, query: str) -> None:
        async for kind, thing in self._client.follow("/api/v1/pods", query):
            if kind == "LISTED":
                for node in self._nodes.values():
                    node.pods.clear()
                for pod in thing["items"]:
                    self._put_pod("ADDED", pod)
            else:
                self._put_pod(kind, thing)
            self._wake.set()

    def _put_pod(self, kind: str, pod: Json) -> None:
        node = self._nodes.get(pod["spec"].get("nodeName", ""))
        if node is not None:
            if kind == "DELETED":
                node.pods.pop(pod["metadata"]["uid"], None)
            else:
                node.pods[pod["metadata"]["uid"]] = pod

    async def _follow_vmis(self, query: str) -> None:
        async for kind, thing in self._client.follow("/apis/kubevirt.io/v1/virtualmachineinstances", query):
            if kind == "LISTED":
                for node in self._nodes.values():
                    node.vmis.clear()
            for vmi in thing["items"] if kind == "LISTED" else [thing]:
                self._put_vmi(kind, vmi)
            self._wake.set()

    def _put_vmi(self, kind: str, vmi: Json) -> None:
        node = self._nodes.get(vmi.get("status", {}).get("nodeName", ""))
        if node is not None:
            if kind == "DELETED":
                node.vmis.pop(vmi["metadata"]["uid"], None)
            else:
                node.vmis[vmi["metadata"]["uid"]] = vmi

    async def _act(self) -> None:
        """Level-triggered: look at everything whenever anything has changed, and now and then."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), STEP_SECONDS)
            self._wake.clear()
            for node in self._nodes.values():
                for uid in node.guests.uids() - node.pods.keys():
                    if node.guests.stop(uid, 0):  # the pod object is gone: a kubelet kills what it ran
                        node.guests.forget(uid)
                for pod in list(node.pods.values()):
                    await self._quietly(self._pod(node, pod))
                for vmi in list(node.vmis.values()):
                    await self._quietly(self._vmi(node, vmi))

    async def _quietly(self, work: Awaitable[object]) -> None:
        try:
            await work
        except Refused as refused:
            if refused.status not in (404, 409):
                log.warning("%s", refused)
        except STALE:
            pass  # the API server is away: whatever runs goes on running

    async def _pod(self, node: Node, pod: Json) -> None:
        uid, path = pod["metadata"]["uid"], nodes.pod_path(pod)
        launcher = pod["metadata"].get("labels", {}).get("kubevirt.io") == "virt-launcher"
        phase = pod.get("status", {}).get("phase", "Pending")
        if pod["metadata"].get("deletionTimestamp"):
            if node.guests.stop(uid, _grace_left(pod)):
                gone = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid}}
                await self._client.call("DELETE", path, gone)
        elif phase == "Pending":
            if launcher:
                if "kubevirt.io/migrationJobUID" in pod["metadata"].get("labels", {}):
                    return
                node.guests.start(uid, _disk(pod))
            await self._pod_status(node, pod, "Running")
        elif phase == "Running" and launcher and not node.guests.runs(uid):
            if self._light and not node.guests.known(uid):
                node.guests.start(uid, "")  # a restarted light stand-in: nothing really ran, so nothing was lost
                return
            # Ended by itself or, if this boot never started it, with the host.
            await self._pod_status(node, pod, "Succeeded" if node.guests.known(uid) else "Failed")

    async def _pod_status(self, node: Node, pod: Json, phase: str) -> None:
        pod["status"] = (await self._client.weave(f"{nodes.pod_path(pod)}/status", nodes.pod_status(pod, phase, node.facts)))["status"]

    async def _vmi(self, node: Node, vmi: Json) -> None:
        status = vmi.get("status", {})
        phase = status.get("phase")
        pod = next(
            (p for p in node.pods.values() if p["metadata"].get("labels", {}).get("kubevirt.io/created-by") == vmi["metadata"]["uid"]), None
        )
        uid = pod["metadata"]["uid"] if pod else ""
        if phase in ("Succeeded", "Failed"):
            return
        if vmi["metadata"].get("deletionTimestamp") and phase in ("Scheduled", "Running"):
            grace = vmi["spec"].get("terminationGracePeriodSeconds", 30)
            left = grace - (datetime.now(UTC) - datetime.fromisoformat(vmi["metadata"]["deletionTimestamp"])).total_seconds()
            if not pod or node.guests.stop(uid, left):
                await self._vmi_phase(vmi, "Succeeded")
        elif phase == "Scheduled" and pod and node.guests.runs(uid):
            await self._vmi_phase(vmi, "Running")
        elif phase == "Running" and pod and not node.guests.runs(uid):
            await self._vmi_phase(vmi, "Succeeded" if node.guests.known(uid) else "Failed")

    async def _vmi_phase(self, vmi: Json, phase: str) -> None:
        meta = vmi["metadata"]
        path = f"/apis/kubevirt.io/v1/namespaces/{meta['namespace']}/virtualmachineinstances/{meta['name']}"
        vmi.update(await self._client.merge(path, nodes.vmi_phase(vmi, phase)))
        log.info("VMI %s/%s is %s", meta["namespace"], meta["name"], phase)

    async def _report(self) -> None:
        """Declare the light nodes armed wherever a HAHost exists for them."""
        async for kind, thing in self._client.follow("/apis/quorate.dev/v1alpha1/hahosts"):
            for hahost in thing["items"] if kind == "LISTED" else [thing] if kind == "ADDED" else []:
                if node := self._nodes.get(hahost["metadata"]["name"]):
                    path = f"/apis/quorate.dev/v1alpha1/hahosts/{node.facts.name}/status"
                    await self._quietly(self._client.merge(path, nodes.light_report(node.facts, self._nodes.keys())))


def _disk(pod: Json) -> str:
    """The file of the VM's disk: by claim where it has one, else by VM name."""
    claims = [v["persistentVolumeClaim"]["claimName"] for v in pod["spec"].get("volumes", []) if "persistentVolumeClaim" in v]
    name = claims[0] if claims else pod["metadata"].get("labels", {}).get("vm.kubevirt.io/name", pod["metadata"]["name"])
    return f"{pod['metadata']['namespace']}-{name}.disk"


def _grace_left(pod: Json) -> float:
    """Seconds until the pod's deletion time, which the API server has set to now plus its grace."""
    return (datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) - datetime.now(UTC)).total_seconds()


async def _main(options: argparse.Namespace) -> None:
    disks = None if options.light else Path(options.disks)
    stood_for = [
        Node(facts, Guests(facts.name, Path(options.run_dir) if options.run_dir else None, disks)) for facts in nodes.from_options(options)
    ]
    async with Client(options.server, options.ca, options.cert, options.key) as client:
        await StandIn(client, stood_for, light=options.light).run()


def main() -> None:
    """`python -m quorate_local.standin`; see `--help`."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--server", "--ca", "--cert", "--key"):
        parser.add_argument(name, required=True)
    parser.add_argument("--node", action="append", required=True, help="name=address")
    parser.add_argument("--memory", default="8Gi")
    parser.add_argument("--label", action="append", default=[], help="key=value")
    parser.add_argument("--boot-id-file")
    parser.add_argument("--run-dir")
    parser.add_argument("--disks")
    parser.add_argument("--light", action="store_true")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
