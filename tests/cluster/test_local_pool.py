"""The local pool itself: what stands in for kubelet and virt-handler behaves as the real ones where Quorate looks."""

import json

import pytest

from quorate_local import pool, runs, verdict, workload


def create_vm(cluster: pool.LocalPool, namespace: str, name: str, *, host: str, run_strategy: str = "Always") -> None:
    """A VM that only that host may run, with its disk."""
    manifests = [*workload.disk_manifests(name, namespace), workload.vm_manifest(name, 1, namespace=namespace, run_strategy=run_strategy)]
    manifests[-1]["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/hostname": host}
    cluster.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, manifests)))


def phase(cluster: pool.LocalPool, namespace: str, name: str) -> str:
    """The VMI's phase and host; empty if there is none."""
    vmi = cluster.api.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachineinstances/{name}") or {}
    return f"{vmi.get('status', {}).get('phase', '')} {vmi.get('status', {}).get('nodeName', '')}".strip()


def ready(cluster: pool.LocalPool, namespace: str, name: str) -> bool:
    """Whether KubeVirt calls the VM ready."""
    vm = cluster.api.get(f"/apis/kubevirt.io/v1/namespaces/{namespace}/virtualmachines/{name}") or {}
    return bool(vm.get("status", {}).get("ready"))


def history(cluster: pool.LocalPool, namespace: str, name: str) -> verdict.DiskHistory:
    """What the VM's disk tells."""
    return verdict.read_disk(name, (cluster.disks / f"{namespace}-{name}.disk").read_text())


@pytest.mark.usefixtures("controllers")
def test_a_vm_follows_virtctl_and_a_power_cut_and_never_runs_twice(cluster: pool.LocalPool, namespace: str) -> None:
    host = cluster.add_host(f"local-{namespace}", memory="8Gi", agent=False)
    try:
        cluster.eventually(lambda: cluster.node_ready(host.name), "the host is Ready")
        create_vm(cluster, namespace, "vm", host=host.name)
        running = f"Running {host.name}"
        cluster.eventually(lambda: phase(cluster, namespace, "vm") == running, "the VM runs")
        cluster.eventually(lambda: ready(cluster, namespace, "vm"), "KubeVirt calls it ready")

        cluster.virtctl("stop", "vm", "-n", namespace)
        cluster.eventually(lambda: phase(cluster, namespace, "vm") == "", "the VM is off")
        assert host.exec("pgrep", "-f", "launcher.py") == ""
        cluster.virtctl("start", "vm", "-n", namespace)
        cluster.eventually(lambda: phase(cluster, namespace, "vm") == running, "the VM runs again")

        boot_id = host.boot_id
        host.power_off()
        assert [runs.marked(*mark) for mark in cluster.rack.environment(host.name).items()] == [[]], "a process outlived the power cut"
        host.power_on()
        cluster.eventually(lambda: len(history(cluster, namespace, "vm").runs) == 3, "the VM is restarted after the power cut")
        node = cluster.api.call("GET", f"/api/v1/nodes/{host.name}")
        assert node["status"]["nodeInfo"]["bootID"] == host.boot_id != boot_id
        assert history(cluster, namespace, "vm").conflicts == ()
    finally:
        cluster.remove_host(host.name)


@pytest.mark.usefixtures("controllers")
def test_a_vm_runs_on_while_its_host_cannot_reach_the_api_server(cluster: pool.LocalPool, namespace: str) -> None:
    if not cluster.isolated:
        pytest.skip("hosts have no network of their own without root")
    host = cluster.add_host(f"local-{namespace}", memory="8Gi", agent=False)
    try:
        cluster.eventually(lambda: cluster.node_ready(host.name), "the host is Ready")
        create_vm(cluster, namespace, "vm", host=host.name)
        cluster.eventually(lambda: phase(cluster, namespace, "vm") == f"Running {host.name}", "the VM runs")
        host.link(up=False)
        cluster.eventually(lambda: not cluster.node_ready(host.name), "the API server calls the host NotReady")
        lines = history(cluster, namespace, "vm").runs[-1].lines
        cluster.eventually(lambda: history(cluster, namespace, "vm").runs[-1].lines > lines + 5, "the VM writes on")
        host.link(up=True)
        cluster.eventually(lambda: cluster.node_ready(host.name), "the host is Ready again")
        assert len(history(cluster, namespace, "vm").runs) == 1
    finally:
        cluster.remove_host(host.name)


@pytest.mark.usefixtures("controllers")
def test_a_launcher_pod_deleted_by_force_stops_the_process_on_its_living_host(cluster: pool.LocalPool, namespace: str) -> None:
    host = cluster.add_host(f"local-{namespace}", memory="8Gi", agent=False)
    try:
        cluster.eventually(lambda: cluster.node_ready(host.name), "the host is Ready")
        create_vm(cluster, namespace, "vm", host=host.name)
        cluster.eventually(lambda: phase(cluster, namespace, "vm") == f"Running {host.name}", "the VM runs")
        pods = cluster.api.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        cluster.api.delete(f"/api/v1/namespaces/{namespace}/pods/{pods[0]['metadata']['name']}")
        cluster.eventually(lambda: len(history(cluster, namespace, "vm").runs) == 2, "KubeVirt restarts it")
        assert history(cluster, namespace, "vm").conflicts == ()
    finally:
        cluster.remove_host(host.name)
