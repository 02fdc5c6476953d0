"""etcd, kube-apiserver, kube-controller-manager, kube-scheduler and kwok on loopback, with a PKI of their own.

Nothing here is Quorate's or KubeVirt's.
"""

from dataclasses import dataclass
from pathlib import Path

from quorate_local import api, pki, processes
from quorate_local.binaries import Binaries

NODE_MONITOR_GRACE_SECONDS = 16
FAKE_NODE_ANNOTATION = "kwok.x-k8s.io/node"


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """A running control plane. `kubeconfig` is an administrator's."""

    folder: Path
    server: str
    port: int
    ca: pki.Authority
    kubeconfig: Path
    api: api.Api

    def client_kubeconfig(self, name: str, *, groups: tuple[str, ...] = (), server: str | None = None) -> Path:
        """A kubeconfig for another client certificate: `groups` as in Kubernetes RBAC, `server` where it is reached elsewhere."""
        file = name.replace(":", "-")
        pair = self.ca.issue(file, common_name=name, groups=groups)
        return api.write_kubeconfig(self.folder / f"{file}.kubeconfig", server or self.server, self.ca.cert, pair)


def start(procs: processes.Processes, binaries: Binaries, *, port: int | None = None, extra_names: tuple[str, ...] = ()) -> ControlPlane:
    """Start everything and wait until the API server is ready.

    `extra_names` are further names or addresses under which the API server is reached. Raises Problem, also when `port` is taken.
    """
    folder = procs.run.folder / "control-plane"
    secure_port = processes.claim_port(port)
    ca = pki.authority(folder / "pki", "ca")
    front = pki.authority(folder / "pki", "front-proxy-ca")
    admin = ca.issue("admin", common_name="quorate-local-admin", groups=("system:masters",))
    server = f"https://127.0.0.1:{secure_port}"
    client = api.Api(server, ca.cert, admin)
    kubeconfig = api.write_kubeconfig(procs.run.folder / "kubeconfig", server, ca.cert, admin)
    plane = ControlPlane(folder, server, secure_port, ca, kubeconfig, client)

    etcd = f"http://127.0.0.1:{processes.free_port()}"
    peer = f"http://127.0.0.1:{processes.free_port()}"
    procs.start(
        "etcd",
        [
            binaries["etcd"],
            f"--data-dir={folder / 'etcd'}",
            "--unsafe-no-fsync",  # nothing here has to survive a power cut of this machine
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--log-level=warn",
        ],
    )
    _start_api_server(procs, binaries, plane, front, etcd, extra_names)
    procs.wait_until(client.ready, "the API server is ready", needs=("etcd", "kube-apiserver"))
    _start_controllers(procs, binaries, plane)
    return plane


def _start_api_server(
    procs: processes.Processes, binaries: Binaries, plane: ControlPlane, front: pki.Authority, etcd: str, extra_names: tuple[str, ...]
) -> None:
    names = ("127.0.0.1", "localhost", "10.96.0.1", "kubernetes", "kubernetes.default", "kubernetes.default.svc", *extra_names)
    serving = plane.ca.issue("apiserver", common_name="kube-apiserver", hosts=names)
    proxy = front.issue("front-proxy", common_name="front-proxy")
    tokens = pki.service_account_key(plane.folder / "pki")
    procs.start(
        "kube-apiserver",
        [
            binaries["kube-apiserver"],
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            f"--secure-port={plane.port}",
            f"--tls-cert-file={serving.cert}",
            f"--tls-private-key-file={serving.key}",
            f"--client-ca-file={plane.ca.cert}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={tokens.cert}",
            f"--service-account-signing-key-file={tokens.key}",
            f"--requestheader-client-ca-file={front.cert}",
            "--requestheader-allowed-names=front-proxy",
            "--requestheader-extra-headers-prefix=X-Remote-Extra-",
            "--requestheader-group-headers=X-Remote-Group",
            "--requestheader-username-headers=X-Remote-User",
            f"--proxy-client-cert-file={proxy.cert}",
            f"--proxy-client-key-file={proxy.key}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--endpoint-reconciler-type=none",  # no node to reach it from by a cluster address
            "--allow-privileged=true",
            "--watch-cache=true",
            "--shutdown-delay-duration=0s",
        ],
    )


def _start_controllers(procs: processes.Processes, binaries: Binaries, plane: ControlPlane) -> None:
    pki_folder = plane.folder / "pki"
    manager = plane.client_kubeconfig("system:kube-controller-manager", groups=("system:masters",))
    procs.start(
        "kube-controller-manager",
        [
            binaries["kube-controller-manager"],
            f"--kubeconfig={manager}",
            f"--service-account-private-key-file={pki_folder / 'sa.key'}",
            f"--root-ca-file={plane.ca.cert}",
            "--leader-elect=false",
            "--secure-port=0",
            f"--node-monitor-grace-period={NODE_MONITOR_GRACE_SECONDS}s",
            "--node-monitor-period=2s",
            "--kube-api-qps=100",
            "--kube-api-burst=200",
        ],
    )
    scheduler = plane.client_kubeconfig("system:kube-scheduler", groups=("system:masters",))
    procs.start(
        "kube-scheduler",
        [binaries["kube-scheduler"], f"--kubeconfig={scheduler}", "--leader-elect=false", "--secure-port=0"],
    )
    procs.start(
        "kwok",
        [
            binaries["kwok"],
            f"--kubeconfig={plane.kubeconfig}",
            f"--config={Path(__file__).with_name('kwok-stages.yaml')}",
            "--manage-all-nodes=false",
            f"--manage-nodes-with-annotation-selector={FAKE_NODE_ANNOTATION}=fake",
            f"--server-address=127.0.0.1:{processes.free_port()}",
        ],
    )
