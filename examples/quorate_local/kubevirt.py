"""KubeVirt's own controllers beside the control plane: its CRDs, virt-api with its webhooks, virt-controller.

The part of virt-handler and virt-launcher that lives on a node is not here: see `standin`.
"""

from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

from quorate_local import api, pki, processes
from quorate_local.binaries import Binaries
from quorate_local.control_plane import ControlPlane

NAMESPACE = "kubevirt"
ALL = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "virt-api", "virt-controller")
_SUBRESOURCES = "/apis/subresources.kubevirt.io/v1"
_HOOKS = "/apis/admissionregistration.k8s.io/v1"

# KubeVirt's own webhooks that matter for VirtualMachines (its operator registers these and more).
_MUTATING = (
    ("virtualmachines-mutator", "/virtualmachines-mutate", "virtualmachines", ("CREATE", "UPDATE")),
    ("virtualmachineinstances-mutator", "/virtualmachineinstances-mutate", "virtualmachineinstances", ("CREATE",)),
    ("migrations-mutator", "/migration-mutate-create", "virtualmachineinstancemigrations", ("CREATE",)),
)
_VALIDATING = (
    ("virtualmachine-validator", "/virtualmachines-validate", "virtualmachines", ("CREATE", "UPDATE")),
    ("virtualmachineinstances-create-validator", "/virtualmachineinstances-validate-create", "virtualmachineinstances", ("CREATE",)),
    ("migration-create-validator", "/migration-validate-create", "virtualmachineinstancemigrations", ("CREATE",)),
)


def start(procs: processes.Processes, binaries: Binaries, plane: ControlPlane) -> None:
    """Install KubeVirt and start its controllers; `wait` then waits for them. Raises Problem."""
    client = plane.api
    client.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    _apply_crds(client, binaries)
    client.create(
        f"/api/v1/namespaces/{NAMESPACE}/configmaps",
        {"metadata": {"name": "kubevirt-ca"}, "data": {"ca-bundle": plane.ca.cert.read_text()}},
    )
    _create_kubevirt(procs, client)
    certificate = plane.ca.issue("virt-api", common_name="virt-api", hosts=("localhost", "127.0.0.1", "virt-api.kubevirt.svc"))
    virt_api = plane.client_kubeconfig(f"system:serviceaccount:{NAMESPACE}:kubevirt-apiserver", groups=("system:masters",))
    port = processes.free_port()
    procs.start("virt-api", _virt_api(binaries, virt_api, certificate, port))
    procs.start("virt-controller", _virt_controller(binaries, plane, certificate))
    _register(client, plane, port)


def wait(procs: processes.Processes, plane: ControlPlane) -> None:
    """Wait until KubeVirt's API answers and its controller leads. Raises Problem."""
    procs.wait_until(lambda: _answers(plane.api), "KubeVirt's API answers", needs=ALL, deadline_seconds=120)


def _apply_crds(client: api.Api, binaries: Binaries) -> None:
    documents = binaries.kubevirt_crds.read_bytes().splitlines()
    with ThreadPoolExecutor(4) as pool:
        for _ in pool.map(lambda crd: client.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", crd), documents):
            pass


def _create_kubevirt(procs: processes.Processes, client: api.Api) -> None:
    """The KubeVirt object with the settings of this pool; its kind appears a moment after its definition."""

    def created() -> bool:
        try:
            client.create(
                f"/apis/kubevirt.io/v1/namespaces/{NAMESPACE}/kubevirts",
                {
                    "apiVersion": "kubevirt.io/v1",
                    "kind": "KubeVirt",
                    "metadata": {"name": "kubevirt", "namespace": NAMESPACE},
                    "spec": {"configuration": {"developerConfiguration": {"useEmulation": True}}},
                },
            )
        except api.ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    procs.wait_until(created, "KubeVirt's kinds are served", needs=("kube-apiserver",))

    def served() -> bool:
        found = client.get("/apis/kubevirt.io/v1")
        return {"virtualmachines", "virtualmachineinstances"} <= {r["name"] for r in (found or {}).get("resources", [])}

    procs.wait_until(served, "KubeVirt's kinds are served", needs=("kube-apiserver",))


def _virt_api(binaries: Binaries, kubeconfig: object, certificate: pki.KeyPair, port: int) -> list[str]:
    return [
        str(binaries["virt-api"]),
        f"--kubeconfig={kubeconfig}",
        "--listen=127.0.0.1",
        f"--port={port}",
        f"--tls-cert-file={certificate.cert}",
        f"--tls-key-file={certificate.key}",
        f"--handler-cert-file={certificate.cert}",
        f"--handler-key-file={certificate.key}",
    ]


def _virt_controller(binaries: Binaries, plane: ControlPlane, certificate: pki.KeyPair) -> list[str]:
    # Certificates, but with the names that these service accounts have on a real cluster: admission tells them apart by name.
    kubeconfig = plane.client_kubeconfig(f"system:serviceaccount:{NAMESPACE}:kubevirt-controller", groups=("system:masters",))
    return [
        str(binaries["virt-controller"]),
        f"--kubeconfig={kubeconfig}",
        "--listen=127.0.0.1",
        f"--port={processes.free_port()}",
        f"--prom-cert-file={certificate.cert}",
        f"--prom-key-file={certificate.key}",
        "--launcher-image=virt-launcher",
        "--leader-elect-lease-duration=15s",
    ]


def _register(client: api.Api, plane: ControlPlane, port: int) -> None:
    """Make virt-api the server of its aggregated API and of its webhooks.

    A Service that is only another name for localhost stands in for the cluster network.
    """
    bundle = b64encode(plane.ca.cert.read_bytes()).decode()
    client.create(
        f"/api/v1/namespaces/{NAMESPACE}/services",
        {"metadata": {"name": "virt-api"}, "spec": {"type": "ExternalName", "externalName": "localhost", "ports": [{"port": port}]}},
    )
    for version in ("v1", "v1alpha3"):
        client.create(
            "/apis/apiregistration.k8s.io/v1/apiservices",
            {
                "metadata": {"name": f"{version}.subresources.kubevirt.io"},
                "spec": {
                    "group": "subresources.kubevirt.io",
                    "version": version,
                    "groupPriorityMinimum": 1000,
                    "versionPriority": 15,
                    "service": {"namespace": NAMESPACE, "name": "virt-api", "port": port},
                    "caBundle": bundle,
                },
            },
        )
    for kind, plural, hooks in (
        ("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", _MUTATING),
        ("ValidatingWebhookConfiguration", "validatingwebhookconfigurations", _VALIDATING),
    ):
        client.create(
            f"{_HOOKS}/{plural}",
            {
                "apiVersion": "admissionregistration.k8s.io/v1",
                "kind": kind,
                "metadata": {"name": f"virt-api-{kind.split('Webhook')[0].lower()}"},
                "webhooks": [
                    {
                        "name": f"{name}.kubevirt.io",
                        "admissionReviewVersions": ["v1"],
                        "sideEffects": "None",
                        "failurePolicy": "Fail",
                        "timeoutSeconds": 10,
                        "clientConfig": {"url": f"https://127.0.0.1:{port}{path}", "caBundle": bundle},
                        "rules": [
                            {"apiGroups": ["kubevirt.io"], "apiVersions": ["v1"], "operations": list(operations), "resources": [resource]}
                        ],
                    }
                    for name, path, resource, operations in hooks
                ],
            },
        )


def _answers(client: api.Api) -> bool:
    try:
        if client.get(_SUBRESOURCES) is None:
            return False
        lease = client.get(f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/virt-controller")
    except api.ApiError:
        return False
    return bool(lease and lease.get("spec", {}).get("holderIdentity"))
