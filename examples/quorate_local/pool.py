"""The local pool as one object: what the demo and the tests hold in their hands.

Composes the other modules; decides nothing about high availability.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from quorate_local import api, binaries, control_plane, hosts, installation, kubevirt, processes, runs
from quorate_local.problem import Problem

Say = Callable[[str], None]

HEARTBEAT_DISK_BYTES = 2**20


class LocalPool:
    """A control plane with KubeVirt, and whatever hosts, controllers and VMs are added to it."""

    def __init__(self, run: runs.Run, found: binaries.Binaries, say: Say) -> None:
        self.run = run
        self.binaries = found
        self.say = say
        self.processes = processes.Processes(run)
        self._plane: control_plane.ControlPlane | None = None
        self._rack: hosts.Rack | None = None
        self._quorate: installation.Installation | None = None
        self.disks = run.folder / "disks"
        self.heartbeat_disk = run.folder / "heartbeat.disk"

    @property
    def plane(self) -> control_plane.ControlPlane:
        """The control plane, once started."""
        assert self._plane is not None
        return self._plane

    @property
    def kubeconfig(self) -> Path:
        """An administrator's kubeconfig."""
        return self.plane.kubeconfig

    @property
    def api(self) -> api.Api:
        """An administrator's client."""
        return self.plane.api

    @property
    def rack(self) -> hosts.Rack:
        """The hosts, once the control plane is started."""
        assert self._rack is not None
        return self._rack

    @property
    def quorate(self) -> installation.Installation:
        """Quorate's chart and controllers. Raises Problem in a pool without it."""
        if self._quorate is None:
            raise Problem("Quorate is not installed in this pool.")
        return self._quorate

    @property
    def isolated(self) -> bool:
        """Whether hosts have namespaces of their own (root), or are plain processes."""
        return self.rack.isolated

    @property
    def watchdog_device(self) -> str:
        """What to write into `HAPool.spec.watchdog.device`."""
        return self.rack.watchdog.device

    def start(self, *, port: int | None = None, quorate: bool = True) -> None:
        """Start the control plane and KubeVirt, install Quorate's chart; no controller and no host yet. Raises Problem."""
        self._plane = control_plane.start(self.processes, self.binaries, port=port, extra_names=(hosts.GATEWAY,))
        kubevirt.start(self.processes, self.binaries, self.plane)
        self.disks.mkdir()
        self.heartbeat_disk.write_bytes(bytes(HEARTBEAT_DISK_BYTES))
        node = self.plane.ca.issue("standin", common_name="quorate-local-standin", groups=("system:masters",))
        reach = (self.plane.server, self.plane.ca.cert, node.cert, node.key)
        self._rack = hosts.Rack(self.processes, hosts.Surroundings(reach, self.disks, installation.NAMESPACE), self.plane.port)
        if quorate:
            self._quorate = installation.Installation(self.processes, self.plane)
            self._quorate.install()
        kubevirt.wait(self.processes, self.plane)

    def stop(self) -> None:
        """Stop everything and delete the run's folder."""
        if self._rack:
            self._rack.stop()
        self.processes.stop_all()
        self.run.give_up()

    def start_controller(self, identity: str, *, lead: bool = True, webhook: bool = True, wait: bool = True) -> None:
        """Start a controller replica. Raises Problem."""
        self.quorate.start_controller(identity, lead=lead, webhook=webhook, wait=wait)

    def kill_controller(self, identity: str) -> None:
        """kill -9 a controller replica."""
        self.quorate.kill_controller(identity)

    def stop_controller(self, identity: str) -> None:
        """Stop a controller replica as a cluster would."""
        self.quorate.stop_controller(identity)

    def add_host(self, name: str, *, memory: str = "8Gi", labels: Mapping[str, str] | None = None, agent: bool = True) -> hosts.Host:
        """A real host, powered on: its own network and processes, an agent where `agent`, the development watchdog."""
        host = self.rack.add(name, memory=memory, labels=labels or {}, agent=agent)
        if agent:
            self.api.create("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(host.labels)}})
            self.quorate.agent_kubeconfig(host.agent_kubeconfig, name, self.rack.server)
        host.power_on()
        return host

    def remove_host(self, name: str) -> None:
        """Switch a host off and delete its Node."""
        self.rack.hosts.pop(name).power_off()
        self.api.delete(f"/api/v1/nodes/{name}")

    def split(self, *groups: Collection[str]) -> None:
        """Cut groups of hosts off from each other; their way to the API server stays. Raises Problem."""
        self.rack.cables.split(*groups)

    def cut(self, one: str, other: str, *, one_way: bool = False) -> None:
        """Cut between two hosts, or a host and `api`. `one_way`: only what `one` sends to `other` is lost. Raises Problem."""
        self.rack.cables.cut(one, other, one_way=one_way)

    def heal(self) -> None:
        """Undo every cut. Raises Problem."""
        self.rack.cables.heal()

    def light_hosts(self, count: int, *, memory: str = "32Gi", prefix: str = "light", labels: Mapping[str, str] | None = None) -> list[str]:
        """Nodes without processes of their own, named `prefix-1` and so on, kept Ready by one stand-in that declares them armed."""
        names = [f"{prefix}-{number}" for number in range(1, count + 1)]
        server, ca, cert, key = self.rack.around.api
        command = [sys.executable, "-m", "quorate_local.standin", "--light", "--memory", memory]
        command += ["--server", server, "--ca", str(ca), "--cert", str(cert), "--key", str(key)]
        for number, name in enumerate(names, start=1):
            command += ["--node", f"{name}=127.214.{number // 250}.{number % 250 + 1}"]
        for label, value in (labels or {}).items():
            command += ["--label", f"{label}={value}"]
        self.processes.start(f"standin-{prefix}", command)
        self.eventually(lambda: all(self.node_ready(name) for name in names), f"{count} light nodes are Ready")
        return names

    def light_hosts_gone(self, prefix: str = "light") -> None:
        """Stop that stand-in and delete its Nodes."""
        self.processes.kill(f"standin-{prefix}")
        for node in self.api.call("GET", "/api/v1/nodes")["items"]:
            name = node["metadata"]["name"]
            if name.rpartition("-")[0] == prefix:
                self.api.delete(f"/api/v1/nodes/{name}")

    def node_ready(self, name: str) -> bool:
        """Whether the API server calls the node Ready and lets pods on it."""
        node = self.api.get(f"/api/v1/nodes/{name}")
        if node is None or any(t["key"] == "node.kubernetes.io/not-ready" for t in node["spec"].get("taints", [])):
            return False
        return any(c["type"] == "Ready" and c["status"] == "True" for c in node.get("status", {}).get("conditions", []))

    def eventually(self, holds: Callable[[], object], what: str, *, deadline_seconds: float = 60) -> None:
        """Poll until `holds()` is true. Raises Problem when the deadline is over."""
        self.processes.wait_until(lambda: bool(holds()), what, deadline_seconds=deadline_seconds)

    def kubectl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        """What kubectl prints (both streams where it fails and `check` is off).

        Raises Problem with kubectl's message when it fails and `check` is on.
        """
        return self._client("kubectl", args, stdin, check)

    def virtctl(self, *args: str, check: bool = True) -> str:
        """The same for virtctl."""
        return self._client("virtctl", args, None, check)

    def _client(self, name: str, args: tuple[str, ...], stdin: str | None, check: bool) -> str:
        done = subprocess.run(
            [self.binaries[name], *args],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig), runs.MARK: self.run.name},
        )
        if done.returncode and check:
            raise Problem(f"`{name} {' '.join(args)}` failed: {done.stderr.strip()}")
        return done.stdout + (done.stderr if done.returncode else "")


@contextlib.contextmanager
def local_pool(say: Say = print, *, port: int | None = None, quorate: bool = True) -> Iterator[LocalPool]:
    """A started pool; nothing of it is left afterwards, whatever happens inside."""
    found = binaries.ensure(say)
    pool = LocalPool(runs.claim(), found, say)
    try:
        pool.start(port=port, quorate=quorate)
        yield pool
    finally:
        pool.stop()
