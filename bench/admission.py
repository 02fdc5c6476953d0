"""What admission adds to the start of a VM, over a real API server: 64 hosts, 4,000 protected VMs, 1,000 starts, one after another.

Each start is a patch of `spec.runStrategy` from Halted to Always. Blocks of starts without Quorate's webhook and with it alternate in
one run, on the same VMs. KubeVirt's own webhooks answer in both. Pods, VMIs and Nodes are plain objects: nothing runs, and what
KubeVirt and a kubelet would write after a start is written here, outside of the measured time.

Run as `.venv/bin/python bench/admission.py`; prints progress on standard error, the result as text and one line of JSON on standard output.
"""

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench import pools  # noqa: E402  run as a file, from any folder
from quorate_controller import kube  # noqa: E402
from quorate_controller.kube import Json, Kube, Resource  # noqa: E402
from quorate_local.pool import LocalPool, local_pool  # noqa: E402
from quorate_planner import Problem  # noqa: E402

POOL = "bench"
PREFIX = "bench"
NAMESPACE = "bench"
LABEL = {"quorate.bench/pool": POOL}
HOOKS = Resource("admissionregistration.k8s.io/v1", "validatingwebhookconfigurations", "ValidatingWebhookConfiguration", namespaced=False)
MUTATING = Resource("admissionregistration.k8s.io/v1", "mutatingwebhookconfigurations", "MutatingWebhookConfiguration", namespaced=False)
QUORATE: dict[str, dict[str, bool]] = {"controller-a": {"webhook": False}, "admission-a": {"lead": False}}
"""As the chart starts it: one process leads and plans, another answers."""
GUEST_GIB = 1
IN_FLIGHT = 16
SETTLE_SECONDS = 3.0
"""How long the API server may take to see that a webhook configuration came or went."""


def main() -> int:
    """Measure and print. Exit code 1 where a start failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hosts", type=int, default=64)
    parser.add_argument("--vms", type=int, default=4000)
    parser.add_argument("--starts", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--load-percent", type=int, default=60)
    parser.add_argument("--tolerate", type=int, default=2)
    options = parser.parse_args()
    say(f"1 of 4: control plane with KubeVirt, {options.hosts} hosts")
    with local_pool(lambda text: None) as cluster:
        problem = pools.pool(options.hosts, options.vms, options.load_percent, 1)
        return asyncio.run(_measure(cluster, problem, options))


async def _measure(cluster: LocalPool, problem: Problem, options: argparse.Namespace) -> int:
    cluster.light_hosts(options.hosts, memory="1Ti", prefix=PREFIX, labels=LABEL)
    spec = {"hostSelector": {"matchLabels": LABEL}, "heartbeat": {"storage": {"devicePath": str(cluster.heartbeat_disk)}}}
    spec["hostFailuresToTolerate"] = options.tolerate
    _start_quorate(cluster)
    cluster.api.create(
        "/apis/quorate.dev/v1alpha1/hapools",
        {"apiVersion": "quorate.dev/v1alpha1", "kind": "HAPool", "metadata": {"name": POOL}, "spec": spec},
    )
    cluster.eventually(lambda: _pool(cluster).get("phase") == "Armed", "the pool is armed", deadline_seconds=180)
    for name in (f"standin-{PREFIX}", "virt-controller", "kube-controller-manager", "kube-scheduler", "kwok"):
        cluster.processes.kill(name)  # what is written from here on stays as it is written
    for name in QUORATE:
        cluster.kill_controller(name)
    api = await Kube.connect(cluster.kubeconfig, concurrency=IN_FLIGHT, request_seconds=60)
    try:
        hooks = {r: await api.list(r) for r in (HOOKS, MUTATING)}
        for r, objects in hooks.items():
            for obj in objects:
                await api.delete(r, obj["metadata"]["name"])
        await asyncio.sleep(SETTLE_SECONDS)
        say(f"2 of 4: {len(problem.vms)} running VMs and {options.starts} that are off")
        await _fill(api, problem, options.starts)
        for r, objects in hooks.items():
            await _restore(api, r, objects)
        _start_quorate(cluster)
        say("3 of 4: the controller plans")
        cluster.eventually(
            lambda: _pool(cluster).get("protectedVMs", 0) >= len(problem.vms) and _pool(cluster).get("planExistsFor") == options.tolerate,
            f"a plan for {options.tolerate} failures covers {len(problem.vms)} VMs",
            deadline_seconds=600,
        )
        status = _pool(cluster)
        say(f"4 of 4: {options.starts} starts without and with Quorate's webhook, in {options.blocks} blocks each")
        mine = [obj for obj in hooks[HOOKS] if "quorate" in obj["metadata"]["name"]]
        without, with_, refused = await _blocks(api, mine, options)
    finally:
        await api.close()
    return _report(options, status, without, with_, refused)


def _start_quorate(cluster: LocalPool) -> None:
    for name, parts in QUORATE.items():
        cluster.start_controller(name, **parts)


async def _fill(api: Kube, problem: Problem, starts: int) -> None:
    """Nodes as large as the problem wants them, and every VM with VMI, launcher pod and ProtectedVM."""
    names = {host.name: f"{PREFIX}-{number}" for number, host in enumerate(problem.hosts, start=1)}
    own = dict.fromkeys(names, 0)
    for vm in problem.vms:
        own[str(vm.host)] += vm.size
    for host in problem.hosts:
        memory = str(host.free + own[host.name])
        await api.merge(kube.NODES, names[host.name], {"status": {"allocatable": {"memory": memory}}}, status=True)
    await api.create(kube.NAMESPACES, {"metadata": {"name": NAMESPACE}})
    await api.create(Resource("v1", "serviceaccounts", "ServiceAccount"), {"metadata": {"name": "default", "namespace": NAMESPACE}})

    async def running(number: int) -> None:
        vm = problem.vms[number]
        name, guest = f"vm-{number:05}", max(1, vm.size // pools.GIB)
        await api.create(kube.VMS, _vm(name, guest, "Always"))
        await _run(api, name, guest, vm.size, names[str(vm.host)])
        await api.create(kube.PROTECTEDVMS, _protected(name))

    async def off(number: int) -> None:
        await api.create(kube.VMS, _vm(f"start-{number:05}", GUEST_GIB, "Halted"))
        await api.create(kube.PROTECTEDVMS, _protected(f"start-{number:05}"))

    await _many([lambda n=n: running(n) for n in range(len(problem.vms))], "VMs")  # type: ignore[misc]
    await _many([lambda n=n: off(n) for n in range(starts)], "VMs that are off")  # type: ignore[misc]


async def _many(work: Sequence[Callable[[], Awaitable[None]]], what: str) -> None:
    step = max(1, len(work) // 8)
    for at in range(0, len(work), step):
        await asyncio.gather(*(one() for one in work[at : at + step]))
        say(f"        {min(len(work), at + step)} of {len(work)} {what}")


async def _run(api: Kube, name: str, guest: int, request: int, host: str) -> None:
    """What KubeVirt, scheduler and kubelet would write once a VM runs on the host."""
    labels = {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": name}
    owner = {"apiVersion": "kubevirt.io/v1", "kind": "VirtualMachine", "name": name, "uid": f"uid-{name}", "controller": True}
    vmi = await api.create(
        kube.VMIS,
        {
            "metadata": {"name": name, "namespace": NAMESPACE, "ownerReferences": [owner]},
            "spec": {"nodeSelector": LABEL, "domain": {"memory": {"guest": f"{guest}Gi"}, "devices": {}}},
        },
    )
    owner = {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachineInstance",
        "name": name,
        "uid": vmi["metadata"]["uid"],
        "controller": True,
    }
    compute = {"name": "compute", "image": "virt-launcher", "resources": {"requests": {"memory": str(request), "cpu": "100m"}}}
    await api.create(
        kube.PODS,
        {
            "metadata": {"name": f"virt-launcher-{name}", "namespace": NAMESPACE, "labels": labels, "ownerReferences": [owner]},
            "spec": {"nodeName": host, "nodeSelector": LABEL, "automountServiceAccountToken": False, "containers": [compute]},
        },
    )


def _vm(name: str, guest: int, strategy: str) -> Json:
    devices = {"autoattachPodInterface": False}
    template = {"spec": {"nodeSelector": LABEL, "domain": {"memory": {"guest": f"{guest}Gi"}, "devices": devices}}}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"runStrategy": strategy, "template": template}}


def _protected(name: str) -> Json:
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": {"vmRef": {"name": name}, "pool": POOL}}


async def _blocks(api: Kube, mine: Sequence[Json], options: argparse.Namespace) -> tuple[list[float], list[float], list[str]]:
    """Milliseconds of each start without and with the webhook, and what was refused."""
    without: list[float] = []
    with_: list[float] = []
    refused: list[str] = []
    size = -(-options.starts // options.blocks)
    for block in range(options.blocks):
        names = [f"start-{number:05}" for number in range(block * size, min(options.starts, (block + 1) * size))]
        for obj in mine:
            await api.delete(HOOKS, obj["metadata"]["name"])
        await asyncio.sleep(SETTLE_SECONDS)
        for name in names:
            without.append(await _start(api, name, refused))
        for name in names:
            await api.merge(kube.VMS, name, {"spec": {"runStrategy": "Halted"}}, NAMESPACE)
        await _restore(api, HOOKS, mine)
        await asyncio.sleep(SETTLE_SECONDS)
        for name in names:
            began = len(refused)
            with_.append(await _start(api, name, refused))
            if len(refused) == began:
                await _run(api, name, GUEST_GIB, pools.requested(GUEST_GIB), await _reserved(api, name))
        say(f"        block {block + 1} of {options.blocks}: p50 {_at(without, 50):.1f} ms without, {_at(with_, 50):.1f} ms with")
    return without, with_, refused


async def _start(api: Kube, name: str, refused: list[str]) -> float:
    began = time.perf_counter()
    try:
        await api.merge(kube.VMS, name, {"spec": {"runStrategy": "Always"}}, NAMESPACE)
    except kube.Refused as error:
        refused.append(f"{name}: {error}")
    return (time.perf_counter() - began) * 1000


async def _reserved(api: Kube, name: str) -> str:
    """The host that admission reserved for the VM."""
    ledger = await api.get(kube.CONFIGMAPS, f"quorate-ledger-{POOL}", "quorate-system")
    entries = json.loads((ledger or {})["data"]["ledger.json"])["entries"]
    return str(next(entry["host"] for entry in entries if entry["subject"] == f"{NAMESPACE}/{name}"))


async def _restore(api: Kube, r: Resource, objects: Sequence[Json]) -> None:
    for obj in objects:
        metadata = {key: obj["metadata"][key] for key in ("name", "labels", "annotations") if key in obj["metadata"]}
        await api.create(r, {**obj, "metadata": metadata})


def _pool(cluster: LocalPool) -> dict[str, Any]:
    return (cluster.api.get(f"/apis/quorate.dev/v1alpha1/hapools/{POOL}") or {}).get("status") or {}


def _at(values: Sequence[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(len(ordered) * percent / 100) - 1)] if ordered else math.nan


def _report(options: argparse.Namespace, status: dict[str, Any], without: list[float], with_: list[float], refused: list[str]) -> int:
    added = [after - before for before, after in zip(without, with_, strict=True)]
    found = {
        "hosts": options.hosts,
        "vms": options.vms,
        "starts": len(with_),
        "refused": len(refused),
        "cores": os.cpu_count(),
        "load1": round(os.getloadavg()[0], 1),
        "planExistsFor": status.get("planExistsFor"),
        "without_ms": {"p50": round(_at(without, 50), 1), "p99": round(_at(without, 99), 1)},
        "with_ms": {"p50": round(_at(with_, 50), 1), "p99": round(_at(with_, 99), 1)},
        "added_ms": {"p50": round(_at(added, 50), 1), "p99": round(_at(added, 99), 1)},
    }
    print(f"{options.hosts} hosts, {options.vms} protected VMs, {len(with_)} starts one after another, {os.cpu_count()} cores")
    for what in ("without", "with", "added"):
        print(f"  {what:8} p50 {found[f'{what}_ms']['p50']:8.1f} ms   p99 {found[f'{what}_ms']['p99']:8.1f} ms")
    for line in refused[:3]:
        print(f"  refused: {line}")
    print(json.dumps(found))
    return 1 if refused else 0


def say(text: str) -> None:
    """One line of progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
