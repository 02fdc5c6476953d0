"""The command line called in this process, and the objects of a small cluster to ask it about."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import yaml

from quorate_cli.__main__ import main

Json = dict[str, Any]


def quorate(*arguments: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command line in this process: starting Python anew for each case would take most of the time."""
    words = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with (
        mock.patch.object(sys, "argv", ["quorate", *words]),
        mock.patch.object(sys, "stdin", io.StringIO(stdin)),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 0
    return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())


def node(name: str, memory: str = "32Gi") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"pool": "p", "kubevirt.io/schedulable": "true", "kubernetes.io/hostname": name}},
        "status": {"allocatable": {"memory": memory}, "conditions": [{"type": "Ready", "status": "True"}]},
    }


def pool(name: str = "p") -> Json:
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAPool",
        "metadata": {"name": name},
        "spec": {
            "hostFailuresToTolerate": 1,
            "hostSelector": {"matchLabels": {"pool": "p"}},
            "heartbeat": {"storage": {"devicePath": "/dev/quorate"}},
        },
    }


def vm(name: str, memory: str = "4Gi", strategy: str = "Always") -> Json:
    return {
        "apiVersion": "kubevirt.io/v1",
        "kind": "VirtualMachine",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {
            "runStrategy": strategy,
            "template": {"spec": {"domain": {"memory": {"guest": memory}, "devices": {}}}},
        },
    }


def protection(name: str, wished: str = "Protected") -> Json:
    return {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "ProtectedVM",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"vmRef": {"name": name}, "protection": wished},
    }


def launcher(name: str, host: str, memory: str = "4Gi") -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"virt-launcher-{name}",
            "namespace": "shop",
            "labels": {"kubevirt.io": "virt-launcher", "vm.kubevirt.io/name": name},
            "ownerReferences": [{"kind": "VirtualMachineInstance", "apiVersion": "kubevirt.io/v1", "name": name, "uid": "1"}],
        },
        "spec": {"nodeName": host, "containers": [{"name": "compute", "resources": {"requests": {"memory": memory}}}]},
        "status": {"phase": "Running"},
    }


def cluster() -> list[Json]:
    """Three hosts of 32 GiB, two running protected VMs of 4 GiB."""
    running = [(f"vm-{n}", f"h{n}") for n in (1, 2)]
    objects = [pool(), *(node(f"h{n}") for n in (1, 2, 3))]
    for name, host in running:
        objects += [vm(name), protection(name), launcher(name, host)]
    return objects


def dump(tmp_path: Path, objects: list[Json]) -> Path:
    """The objects as `kubectl get ... -o yaml` writes them."""
    path = tmp_path / "cluster.yaml"
    listing = {"apiVersion": "v1", "items": objects, "kind": "List", "metadata": {"resourceVersion": ""}}
    path.write_text(yaml.safe_dump(listing, sort_keys=False))
    return path


def find(objects: list[Json], kind: str) -> Json:
    """The first object of that kind."""
    return next(o for o in objects if o["kind"] == kind)
