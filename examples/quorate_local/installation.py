"""Quorate itself in the local pool: the chart, controller replicas as processes, agents' credentials.

The chart is installed as a person would; only controller and agents run outside of containers, with the rights that the chart gives
them and no others. A TCP forwarder stands in for the webhook's Service.
"""

import http.client
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

from quorate_local import api, pki, processes
from quorate_local.control_plane import ControlPlane
from quorate_local.problem import Problem

NAMESPACE = "quorate-system"
CHART = Path(__file__).parents[2] / "charts" / "quorate"
REPLICAS = 4
"""So many different controllers can run."""


class Installation:
    """The installed chart and the controllers that run."""

    def __init__(self, procs: processes.Processes, plane: ControlPlane) -> None:
        self._procs = procs
        self._plane = plane
        self._ports: dict[str, int] = {}
        self._health: dict[str, int] = {}
        self._free = [processes.free_port() for _ in range(REPLICAS)]
        self.webhook_port = processes.free_port()
        self.webhook: pki.KeyPair = plane.ca.issue("webhook", common_name="quorate-webhook", hosts=("127.0.0.1", "localhost"))
        groups = (f"system:serviceaccounts:{NAMESPACE}", "system:serviceaccounts", "system:authenticated")
        self.controller_kubeconfig = plane.client_kubeconfig(f"system:serviceaccount:{NAMESPACE}:quorate-controller", groups=groups)

    def install(self) -> None:
        """Install the chart without its pods, and the forwarder in front of the webhooks. Raises Problem."""
        targets = [option for port in self._free for option in ("--to", f"127.0.0.1:{port}")]
        forward = [sys.executable, "-m", "quorate_local.forward", "--listen", f"127.0.0.1:{self.webhook_port}", *targets]
        self._procs.start("webhook-forwarder", forward)
        helm = Path(sys.executable).with_name("helm")
        bundle = b64encode(self._plane.ca.cert.read_bytes()).decode()
        settings = {
            "controller.enabled": "false",
            "agent.enabled": "false",
            "webhook.url": f"https://127.0.0.1:{self.webhook_port}",
            "webhook.caBundle": bundle,
        }
        command = [str(helm), "install", "quorate", str(CHART), "--namespace", NAMESPACE, "--create-namespace"]
        command += ["--kubeconfig", str(self._plane.kubeconfig)]
        for name, value in settings.items():
            command += ["--set-string" if value not in ("true", "false") else "--set", f"{name}={value}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        except OSError as error:
            raise Problem(f"cannot run {helm} ({error.strerror}): `make venv` installs it.") from None
        if done.returncode:
            raise Problem(f"the chart could not be installed: {done.stderr.strip()}")

    def start_controller(self, identity: str, *, lead: bool = True, webhook: bool = True, wait: bool = True) -> None:
        """Start a controller replica that may lead, answers admission requests, or both; `wait` until it says that it is ready.

        Raises Problem.
        """
        if identity not in self._ports:
            if not self._free:
                raise Problem(f"at most {REPLICAS} controllers: {', '.join(self._ports)} have been started already.")
            self._ports[identity] = self._free.pop(0)
            self._health[identity] = processes.free_port()
        command = [sys.executable, "-m", "quorate_controller", "--kubeconfig", str(self.controller_kubeconfig)]
        command += ["--namespace", NAMESPACE, "--identity", identity, "--health-port", str(self._health[identity])]
        command += ["--webhook-port", str(self._ports[identity])]
        command += ["--webhook-cert", str(self.webhook.cert), "--webhook-key", str(self.webhook.key)]
        if not webhook:
            command.append("--no-webhook")
        if not lead:
            command.append("--no-lead")
        self._procs.start(identity, [sys.executable, "-m", "quorate_local.supervise", *command])
        if wait:
            self._procs.wait_until(lambda: self.controller_ready(identity), f"{identity} is ready", needs=(identity,))

    def controller_ready(self, identity: str) -> bool:
        """Whether that replica says that it is ready."""
        return self.controller_get(identity, "/readyz")[0] == 200

    def controller_get(self, identity: str, path: str) -> tuple[int, str]:
        """Status and text of one of its http pages (`/livez`, `/readyz`, `/metrics`); status 0 if it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._health[identity], timeout=5)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    def kill_controller(self, identity: str) -> None:
        """kill -9."""
        self._procs.kill(identity)

    def stop_controller(self, identity: str) -> None:
        """SIGTERM, and wait."""
        self._procs.stop(identity)

    def agent_kubeconfig(self, path: Path, node: str, server: str) -> Path:
        """Credentials for the agent of a node: a service account's token that names the node, as in a DaemonSet pod there."""
        uid = self._plane.api.call("GET", f"/api/v1/nodes/{node}")["metadata"]["uid"]
        request: api.Json = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": {"boundObjectRef": {"apiVersion": "v1", "kind": "Node", "name": node, "uid": uid}, "expirationSeconds": 86400},
        }
        answer = self._plane.api.call("POST", f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/quorate-agent/token", request)
        return api.write_kubeconfig(path, server, self._plane.ca.cert, str(answer["status"]["token"]), NAMESPACE)
