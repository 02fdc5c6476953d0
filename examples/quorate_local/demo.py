"""The walkthrough behind `make demo`: a host dies, the network splits, and VMs come back where the plan said; an overcommit is refused.

Shows what a person would do and see, with the real commands and their real output, and checks every claim it makes. It decides nothing
itself: what was planned is read from the API, what happened from the VM disks.
"""

from dataclasses import dataclass

import yaml
from rich.console import Console
from rich.table import Table

from quorate_local import loss, partition, pool, seen, workload
from quorate_local.problem import Problem
from quorate_local.stage import Failed, Stage, keep_evidence
from quorate_local.workload import POOL

LATE_LINES_SHOWN = 6
REFUSAL = "quorate.dev/allow-overcommit"
"""What every refusal of an overcommit names: the way round it. Another error is no refusal."""
NO_ANSWER = "failed calling webhook"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be shown. `splits`: network splits, each as the sizes of its sides."""

    hosts: int
    vms: tuple[workload.DemoVm, ...]
    splits: tuple[tuple[int, ...], ...]

    @property
    def failures(self) -> int:
        """How many hosts fail at once at worst."""
        return max(1, partition.most_lost(self.splits))

    @property
    def memory_gib(self) -> int:
        """Memory of each host."""
        return workload.host_memory_gib(self.vms, self.hosts, self.failures)


def pool_manifest(local: pool.LocalPool, failures: int) -> str:
    """The HAPool of the demo: profile Fast, the shared file as heartbeat disk, the development watchdog."""
    return yaml.safe_dump(
        {
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "HAPool",
            "metadata": {"name": POOL},
            "spec": {
                "hostFailuresToTolerate": failures,
                "hostSelector": {"matchLabels": {"quorate.dev/pool": POOL}},
                "heartbeat": {"storage": {"devicePath": str(local.heartbeat_disk)}, "profile": "Fast"},
                "watchdog": {"device": local.watchdog_device},
            },
        },
        sort_keys=False,
    )


def show(local: pool.LocalPool, wanted: Wanted, *, keep: bool, console: Console, began_seconds: float) -> int:
    """The whole walkthrough on a local pool that was started since `began_seconds`. 0 if everything that was promised was seen."""
    stage = Stage(local, console, began_seconds)
    by_name = {vm.name: vm for vm in wanted.vms}
    stage.step("A control plane is up: etcd, kube-apiserver 1.37 and its controllers, KubeVirt's virt-api and virt-controller, the chart")
    try:
        set_up(stage, wanted)
        refuse(stage, wanted)
        loss.lose_a_host(stage, by_name)
        splits = wanted.splits if local.isolated else ()
        if splits:
            make_room(stage)
        for sizes in splits:
            partition.split_network(stage, by_name, sizes, wanted.failures)
        judge(stage)
    except (Failed, Problem) as error:
        console.print(f"\n[bold red]the demo failed after {stage.elapsed_seconds():.0f} s:[/] {error}", highlight=False, soft_wrap=True)
        console.print(f"logs and the state of the pool: {keep_evidence(local)}", highlight=False)
        return 1
    summarise(stage)
    if keep:
        console.print("The pool stays up; `.venv/bin/quorate-local down` stops it.", highlight=False)
        console.print(f"  export KUBECONFIG={local.kubeconfig}", highlight=False, soft_wrap=True)
    return 0


def set_up(stage: Stage, wanted: Wanted) -> None:
    """Hosts, Quorate, VMs, arming."""
    local, vms = stage.local, wanted.vms
    stage.step(
        f"{wanted.hosts} hosts with {wanted.memory_gib} GiB for VMs each, and Quorate: two controller replicas, an agent on every host"
    )
    for number in range(1, wanted.hosts + 1):
        local.add_host(f"host-{number}", memory=f"{wanted.memory_gib}Gi", labels={"quorate.dev/pool": POOL})
    if local.isolated:
        stage.note("each host is a network namespace and a PID namespace with real processes; killing its init is cutting its power")
    else:
        stage.note("not root: hosts are plain processes on loopback addresses; their network cannot be cut, so no split is shown")
    for identity in ("controller-a", "controller-b"):
        local.start_controller(identity)
    stage.until("the hosts are Ready", lambda: seen.ready_nodes(local) >= wanted.hosts, 60)
    stage.step("A pool: one `kubectl apply`")
    manifest = pool_manifest(local, wanted.failures)
    stage.console.print(manifest.rstrip(), highlight=False, style="dim", soft_wrap=True)
    stage.run("kubectl", "apply", "-f", "-", stdin=manifest)
    stage.step(f"{len(vms)} VMs of mixed sizes: protected in three priorities, best-effort, unprotected")
    manifests = "\n---\n".join(yaml.safe_dump(m, sort_keys=False) for m in workload.manifests(vms, POOL))
    said = stage.run("kubectl", "apply", "-f", "-", stdin=manifests, refused=None, lines=LATE_LINES_SHOWN)
    if NO_ANSWER in said:
        stage.note(f"`{NO_ANSWER}`: this machine is busy. Without an answer nothing is started, so the same again:")
        stage.run("kubectl", "apply", "-f", "-", stdin=manifests, lines=LATE_LINES_SHOWN)
    stage.until("all VMs run", lambda: seen.running_vms(local) >= {vm.name for vm in vms}, 120)
    stage.step("Arming: hosts exchange over disk and network whom they see, until all agree")
    stage.until("the pool is Armed", lambda: seen.text_of(seen.the_pool(local), "status", "phase") == "Armed", 90)
    stage.until("a plan exists and every protected VM has its planned host", lambda: seen.has_plan(local, wanted.failures), 60)
    stage.run("kubectl", "get", "hapools,hahosts")
    stage.run("quorate", "status", lines=30)
    stage.checked("the pool is armed and a plan exists", f"for {wanted.failures} host failure{'s' * (wanted.failures > 1)}")


def refuse(stage: Stage, wanted: Wanted) -> None:
    """What would leave no plan is refused, by apply, by dry-run and by virtctl; what-if says it beforehand."""
    size = wanted.memory_gib // 3
    stage.step(f"Would one more protected VM of {size} GiB still fit? Ask before doing it")
    stage.run("quorate", "what-if", "--add-vm", f"{size}Gi", refused=None, lines=30)
    stage.step("Add memory-hungry VMs until the plan would break: the one too many is refused")
    local = stage.local
    for number in range(1, wanted.hosts + 3):
        name = f"big-{number}"
        halted = [*workload.disk_manifests(name), workload.vm_manifest(name, size, run_strategy="Halted")]
        local.kubectl("apply", "-f", "-", stdin="\n---\n".join(yaml.safe_dump(m) for m in halted))
        started = yaml.safe_dump(workload.vm_manifest(name, size))
        answer = local.kubectl("apply", "--dry-run=server", "-f", "-", stdin=started, check=False)
        if REFUSAL in answer:
            said = stage.run("kubectl", "apply", "-f", "-", stdin=started, refused=True)
            said_to_virtctl = stage.run("virtctl", "start", name, "-n", workload.NAMESPACE, refused=True)
            if REFUSAL not in said or REFUSAL not in said_to_virtctl:
                raise Failed(f"{name} was not started, but not because Quorate refused an overcommit")
            stage.checked("an overcommit is refused", f"{name} of {size} GiB, by kubectl apply, by its dry-run and by virtctl start")
            return
        stage.run("kubectl", "apply", "-f", "-", stdin=started)
        stage.until(f"{name} runs", lambda: name in seen.running_vms(local), 60)  # noqa: B023 - called before the loop goes on
    raise Failed("no overcommitting VM was refused")


def make_room(stage: Stage) -> None:
    """Delete the memory-hungry VMs. After a failover the VMs are no longer spread as before, and the pool was filled to the brim."""
    stage.step("The memory-hungry VMs go: the pool was full to the brim, and after a failover its VMs are not spread as evenly as before")
    big = [name for name in seen.by_name(seen.items(stage.local, "vms", workload.NAMESPACE)) if name.startswith("big-")]
    stage.run("kubectl", "delete", "vms", "-n", workload.NAMESPACE, *big)


def judge(stage: Stage) -> None:
    """The verdict, from the VM disks alone."""
    stage.step("The verdict, from what the VMs wrote to their disks")
    found = seen.histories(stage.local)
    guilty = [f"{history.disk}: {conflict}" for history in found for conflict in history.conflicts]
    if guilty:
        raise Failed("; ".join(guilty))
    runs = sum(len(history.runs) for history in found)
    written = sum(run.lines for history in found for run in history.runs)
    stage.checked("no VM ever ran twice", f"{len(found)} disks, {runs} runs, {written} writes, no overlap")


def summarise(stage: Stage) -> None:
    """What was seen, in one table."""
    table = Table("promise", "seen", "after", title=f"\nQuorate, {stage.elapsed_seconds():.0f} s in all", title_justify="left")
    for row in stage.checks:
        table.add_row(*row)
    stage.console.print(table)
