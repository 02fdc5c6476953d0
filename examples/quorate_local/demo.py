"""The walkthrough behind `make demo`: a host dies and its VMs come back where the plan said; an overcommit is refused.

Shows what a person would do and see, with the real commands and their real output, and checks every claim it makes. It decides nothing
itself: what was planned is read from the API, what happened from the VM disks.
"""

import itertools
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from quorate_core.facts import Protection
from quorate_local import hosts, pool, verdict, workload
from quorate_local.problem import Problem

POOL = "demo"
LINES_SHOWN = 16
LATE_LINES_SHOWN = 6
REFUSAL = "quorate.dev/allow-overcommit"
"""What every refusal of an overcommit names: the way round it. Another error is no refusal."""


class Failed(Exception):
    """The demo saw something that contradicts what Quorate promises; the message says what."""


@dataclass(slots=True)
class Stage:
    """The console, with the seconds since the demo began; collects what was checked for the table at the end."""

    local: pool.LocalPool
    console: Console
    began_seconds: float
    checks: list[tuple[str, str, str]] = field(default_factory=list)

    def elapsed_seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self.began_seconds

    def step(self, text: str) -> None:
        """Begin a step, in plain words."""
        self.console.print(f"\n[bold cyan]{self.elapsed_seconds():6.1f} s[/]  [bold]{text}[/]")

    def note(self, text: str) -> None:
        """One sentence on what is seen."""
        self.console.print(f"          {text}", highlight=False, soft_wrap=True)

    def checked(self, claim: str, seen: str) -> None:
        """A claim that was looked at and holds."""
        self.checks.append((claim, seen, f"{self.elapsed_seconds():.0f} s"))
        self.note(f"[green]ok[/]  {claim}: {seen}")

    def run(self, *command: str, stdin: str | None = None, refused: bool | None = False, lines: int = LINES_SHOWN) -> str:
        """Run a command as a person would, show it and its output.

        `refused` says that it must fail, None that it may. Raises Failed otherwise.
        """
        self.console.print(f"          [yellow]$ {shlex.join(command)}[/]", highlight=False, soft_wrap=True)
        done = subprocess.run(
            [self._program(command[0]), *command[1:]],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.local.kubeconfig), "COLUMNS": "150", "NO_COLOR": "1"},
        )
        output = (done.stdout + done.stderr).rstrip()
        shown = output.splitlines()
        for line in shown[:lines]:
            self.console.print(f"          {line}", highlight=False, markup=False, soft_wrap=True)
        if len(shown) > lines:
            self.console.print(f"          ... {len(shown) - lines} more lines", highlight=False)
        if refused is not None and (done.returncode != 0) != refused:
            raise Failed(f"`{shlex.join(command)}` {'was not refused' if refused else 'failed'}: {output[:500]}")
        return output

    def _program(self, name: str) -> str:
        if name == "quorate":
            return str(Path(sys.executable).with_name("quorate"))
        return str(self.local.binaries[name])

    def until(self, what: str, holds: Callable[[], bool], deadline_seconds: float) -> float:
        """Wait, and say how long it took. Raises Failed at the deadline."""
        start = time.monotonic()
        while not holds():
            if time.monotonic() - start > deadline_seconds:
                raise Failed(f"waited {deadline_seconds:.0f} s in vain until {what}")
            time.sleep(0.25)
        took = time.monotonic() - start
        self.note(f"{what} ({took:.1f} s)")
        return took


def keep_evidence(local: pool.LocalPool) -> Path:
    """Copy the logs and what the API says to a folder that outlives the pool; its path."""
    folder = Path(tempfile.mkdtemp(prefix="quorate-demo-"))
    shutil.copytree(local.run.logs, folder / "logs")
    shutil.copytree(local.disks, folder / "disks")
    state = local.kubectl("get", "hapools,hahosts,protectedvms,failovers,nodes,pods,vms,vmis", "-A", "-o", "yaml", check=False)
    (folder / "state.yaml").write_text(state)
    return folder


def items(local: pool.LocalPool, resource: str, namespace: str | None = None) -> list[dict[str, object]]:
    """Objects of a kind as kubectl gives them."""
    where = ["-n", namespace] if namespace else []
    found: list[dict[str, object]] = json.loads(local.kubectl("get", resource, *where, "-o", "json"))["items"]
    return found


def dig(value: object, *path: str) -> object:
    """A field deep inside JSON, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text_of(value: object, *path: str) -> str:
    """The same as text; empty if it is not there."""
    found = dig(value, *path)
    return "" if found is None else str(found)


def by_name(objects: list[dict[str, object]]) -> dict[str, dict[str, object]]:
    """Objects by their name."""
    return {text_of(o, "metadata", "name"): o for o in objects}


def pool_manifest(local: pool.LocalPool) -> str:
    """The HAPool of the demo: profile Fast, the shared file as heartbeat disk, the development watchdog."""
    return yaml.safe_dump(
        {
            "apiVersion": "quorate.dev/v1alpha1",
            "kind": "HAPool",
            "metadata": {"name": POOL},
            "spec": {
                "hostFailuresToTolerate": 1,
                "hostSelector": {"matchLabels": {"quorate.dev/pool": POOL}},
                "heartbeat": {"storage": {"devicePath": str(local.heartbeat_disk)}, "profile": "Fast"},
                "watchdog": {"device": local.watchdog_device},
            },
        },
        sort_keys=False,
    )


def show(local: pool.LocalPool, *, hosts_wanted: int, vms_wanted: int, keep: bool, console: Console, began_seconds: float) -> int:
    """The whole walkthrough on a local pool that was started since `began_seconds`. 0 if everything that was promised was seen."""
    stage = Stage(local, console, began_seconds)
    vms = workload.make_vms(vms_wanted)
    stage.step("A control plane is up: etcd, kube-apiserver 1.37 and its controllers, KubeVirt's virt-api and virt-controller, the chart")
    try:
        set_up(stage, vms, hosts_wanted)
        refuse(stage, vms, hosts_wanted)
        lose_a_host(stage, vms)
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


def set_up(stage: Stage, vms: tuple[workload.DemoVm, ...], hosts_wanted: int) -> None:
    """Hosts, Quorate, VMs, arming."""
    local = stage.local
    memory = workload.host_memory_gib(vms, hosts_wanted)
    stage.step(f"{hosts_wanted} hosts with {memory} GiB for VMs each, and Quorate: two controller replicas, an agent on every host")
    for number in range(1, hosts_wanted + 1):
        local.add_host(f"host-{number}", memory=f"{memory}Gi", labels={"quorate.dev/pool": POOL})
    if local.isolated:
        stage.note("each host is a network namespace and a PID namespace with real processes; killing its init is cutting its power")
    else:
        stage.note("not root: hosts are plain processes on loopback addresses; cutting a host's network is not shown")
    for identity in ("controller-a", "controller-b"):
        local.start_controller(identity)
    stage.until("the hosts are Ready", lambda: ready_nodes(local) >= hosts_wanted, 60)
    stage.step("A pool: one `kubectl apply`")
    stage.console.print(pool_manifest(local).rstrip(), highlight=False, style="dim", soft_wrap=True)
    stage.run("kubectl", "apply", "-f", "-", stdin=pool_manifest(local))
    stage.step(f"{len(vms)} VMs of mixed sizes: protected in three priorities, best-effort, unprotected")
    manifests = "\n---\n".join(yaml.safe_dump(m, sort_keys=False) for m in workload.manifests(vms, POOL))
    stage.run("kubectl", "apply", "-f", "-", stdin=manifests, lines=LATE_LINES_SHOWN)
    stage.until("all VMs run", lambda: running_vms(local) >= {vm.name for vm in vms}, 120)
    stage.step("Arming: hosts exchange over disk and network whom they see, until all agree")
    stage.until("the pool is Armed", lambda: text_of(the_pool(local), "status", "phase") == "Armed", 90)
    stage.until(
        "a plan exists and every protected VM has its planned host",
        lambda: (
            text_of(the_pool(local), "status", "planExistsFor") == "1"
            and all(text_of(p, "status", "plannedHost") for p in items(local, "protectedvms", workload.NAMESPACE) if is_protected(p))
        ),
        60,
    )
    stage.run("kubectl", "get", "hapools,hahosts")
    stage.run("quorate", "status", lines=30)
    stage.checked("the pool is armed and a plan exists", f"for {text_of(the_pool(local), 'status', 'planExistsFor')} host failure")


def refuse(stage: Stage, vms: tuple[workload.DemoVm, ...], hosts_wanted: int) -> None:
    """What would leave no plan is refused, by apply, by dry-run and by virtctl; what-if says it beforehand."""
    size = workload.host_memory_gib(vms, hosts_wanted) // 3
    stage.step(f"Would one more protected VM of {size} GiB still fit? Ask before doing it")
    stage.run("quorate", "what-if", "--add-vm", f"{size}Gi", refused=None, lines=30)
    stage.step("Add memory-hungry VMs until the plan would break: the one too many is refused")
    local = stage.local
    for number in range(1, hosts_wanted + 3):
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
        stage.until(f"{name} runs", lambda: name in running_vms(local), 60)  # noqa: B023 - called before the loop goes on
    raise Failed("no overcommitting VM was refused")


def lose_a_host(stage: Stage, vms: tuple[workload.DemoVm, ...]) -> None:
    """A host can no longer prove that it is alive: fenced, certified, its VMs restarted in order on the planned hosts; it returns."""
    local = stage.local
    victim = busiest_host(local)
    planned = {n: text_of(p, "status", "plannedHost") for n, p in protected(local).items() if text_of(p, "status", "host") == victim.name}
    names = {vm.name: vm for vm in vms}
    here = {n for n, host in vm_hosts(local).items() if host == victim.name}
    stage.step(f"{victim.name} stops proving that it is alive: its agent is frozen, while its {len(here)} VMs still run and write")
    stage.run("kubectl", "get", "protectedvms", "-n", workload.NAMESPACE, "--sort-by=.spec.priority", lines=30)
    local.rack.reboot_after_seconds = None
    frozen_at = time.monotonic()
    victim.pause("pulse")
    stage.note(f"$ kill -STOP <pulse of {victim.name}>")
    stage.until(f"the watchdog has reset {victim.name}: fenced", lambda: not victim.is_on(), 60)
    stage.until(
        "the survivors have certified it dead",
        lambda: bool(text_of(by_name(items(local, "hahosts"))[victim.name], "status", "certificate", "incarnation")),
        120,
    )
    certified_seconds = time.monotonic() - frozen_at
    certificate = dig(by_name(items(local, "hahosts"))[victim.name], "status", "certificate")
    stage.note(f"certificate: {text_of(certificate, 'evidence')}")
    bound = float(text_of(certificate, "boundSeconds") or 0)
    silent = float(text_of(certificate, "silentSeconds") or 0)
    if silent < bound:
        raise Failed(f"the certificate was issued after {silent:.1f} s of silence, before the bound of {bound:.1f} s")
    stage.checked(
        "fenced first, then certified", f"silent {silent:.1f} s, bound R_s {bound:.1f} s, {certified_seconds:.0f} s after the freeze"
    )
    stage.until("every protected and best-effort VM runs again", lambda: here <= elsewhere(local, victim.name), 120)
    stage.until("the failover is complete", lambda: text_of(the_failover(local), "status", "phase") == "Completed", 60)
    stage.run("kubectl", "get", "failovers")
    compare(stage, planned, names)
    stage.step(f"{victim.name} is repaired and powered on")
    victim.power_on()
    stage.until(f"{victim.name} is Live again, its taint gone", lambda: is_back(local, victim.name), 120)
    stage.run("kubectl", "get", "hapools,hahosts")
    stage.checked("the host returned", f"{victim.name} is Live with a new boot id and incarnation")


def compare(stage: Stage, planned: dict[str, str], vms: dict[str, workload.DemoVm]) -> None:
    """Where each VM was planned, where it came back by the word of its disk, and in which order."""
    runs = {history.disk.removeprefix(f"{workload.NAMESPACE}-"): history.runs for history in histories(stage.local)}
    table = Table(
        "VM", "priority", "planned", "restarted on", "again after", title="planned and actual, from the VM disks", title_justify="left"
    )
    rows = []
    for name, host in planned.items():
        if len(runs.get(name, ())) < 2:
            raise Failed(f"{name} did not run again by the word of its disk")
        before, after = runs[name][-2], runs[name][-1]
        rows.append(
            (
                vms[name].priority if name in vms else 0,
                after.first_seconds,
                name,
                host,
                after.host,
                after.first_seconds - before.last_seconds,
            )
        )
    for priority, _, name, host, actual, gap in sorted(rows):
        table.add_row(name, str(priority), host, actual, f"{gap:.1f} s")
    stage.console.print(table)
    wrong = [f"{row[2]} on {row[4]} instead of {row[3]}" for row in rows if row[3] != row[4]]
    if wrong:
        raise Failed(f"restarted elsewhere than planned: {', '.join(wrong)}")
    stage.checked("every protected VM restarted where the plan said", f"{len(rows)} of {len(rows)}")
    ends = {p: max(row[1] for row in rows if row[0] == p) for p in {row[0] for row in rows}}
    starts = {p: min(row[1] for row in rows if row[0] == p) for p in {row[0] for row in rows}}
    levels = sorted(ends)
    for earlier, later in itertools.pairwise(levels):
        if starts[later] < ends[earlier]:
            raise Failed(f"a VM of priority {later} ran before the last one of priority {earlier}")
    stage.checked("priorities in order", " before ".join(str(level) for level in levels))


def judge(stage: Stage) -> None:
    """The verdict, from the VM disks alone."""
    stage.step("The verdict, from what the VMs wrote to their disks")
    found = histories(stage.local)
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


def histories(local: pool.LocalPool) -> tuple[verdict.DiskHistory, ...]:
    """What every VM disk tells."""
    return verdict.read_disks(local.disks.iterdir())


def the_pool(local: pool.LocalPool) -> dict[str, object]:
    """The HAPool."""
    return by_name(items(local, "hapools"))[POOL]


def the_failover(local: pool.LocalPool) -> dict[str, object]:
    """The only failover, or nothing yet."""
    return next(iter(items(local, "failovers")), {})


def is_protected(pvm: dict[str, object]) -> bool:
    """Whether it is protected with a guarantee."""
    return text_of(pvm, "spec", "protection") == Protection.PROTECTED.value


def protected(local: pool.LocalPool) -> dict[str, dict[str, object]]:
    """ProtectedVMs with a guarantee, by name."""
    return {name: p for name, p in by_name(items(local, "protectedvms", workload.NAMESPACE)).items() if is_protected(p)}


def ready_nodes(local: pool.LocalPool) -> int:
    """How many Nodes of the pool are Ready."""
    conditions = [dig(node, "status", "conditions") for node in items(local, "nodes")]
    return sum(any(c.get("type") == "Ready" and c.get("status") == "True" for c in cs) for cs in conditions if isinstance(cs, list))


def vm_hosts(local: pool.LocalPool) -> dict[str, str]:
    """Where each running VM is."""
    vmis = items(local, "virtualmachineinstances", workload.NAMESPACE)
    return {text_of(v, "metadata", "name"): text_of(v, "status", "nodeName") for v in vmis if text_of(v, "status", "phase") == "Running"}


def running_vms(local: pool.LocalPool) -> set[str]:
    """Names of the VMs that run."""
    return set(vm_hosts(local))


def elsewhere(local: pool.LocalPool, host: str) -> set[str]:
    """Names of the VMs that run on another host."""
    return {name for name, at in vm_hosts(local).items() if at != host}


def busiest_host(local: pool.LocalPool) -> hosts.Host:
    """The host with the most protected VMs."""
    at = [text_of(p, "status", "host") for p in protected(local).values()]
    return local.rack.hosts[max(sorted(local.rack.hosts), key=at.count)]


def is_back(local: pool.LocalPool, host: str) -> bool:
    """Whether the host is Live and no longer tainted."""
    live = text_of(by_name(items(local, "hahosts"))[host], "status", "phase") == "Live"
    taints = dig(by_name(items(local, "nodes"))[host], "spec", "taints")
    return live and not (isinstance(taints, list) and any("out-of-service" in str(taint) for taint in taints))
