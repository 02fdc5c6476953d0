"""Deployment and DaemonSet: the processes that exist, started with options they have, with no more rights than they need."""

import re
import subprocess
import sys
from typing import Any

import pytest

from quorate_controller import settings

from .rendering import only, rendered


def containers(kind: str, *values: str) -> dict[str, dict[str, Any]]:
    pod = only(rendered(*values), kind)["spec"]["template"]["spec"]
    return {container["name"]: container for container in pod["containers"]}


@pytest.mark.parametrize("values", [(), ("webhook.enabled=false",)])
def test_controller_and_admission_are_started_with_options_they_have(values: tuple[str, ...], tmp_path: Any) -> None:
    (tmp_path / "tls.crt").touch()
    (tmp_path / "tls.key").touch()
    found = containers("Deployment", *values)
    assert [*found] == (["controller"] if values else ["controller", "admission"])
    health = set()
    for name, container in found.items():
        assert container["command"] == ["quorate-controller"]
        read = settings.read([argument.replace("/etc/quorate/webhook", str(tmp_path)) for argument in container["args"]], {})
        assert (read.lead, read.webhook) == (name == "controller", name == "admission")
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        assert container["livenessProbe"]["httpGet"]["port"] == read.health_port
        assert read.health_port == ports["health" if read.lead else "admission"]
        assert ports.get("webhook") == (read.webhook_port if read.webhook else None)
        health.add(read.health_port)
    assert len(health) == len(found), "one pod, one address: no port twice"


@pytest.mark.parametrize("name", ["keeper", "pulse", "report", "backup"])
def test_each_agent_process_is_started_with_options_it_has(name: str) -> None:
    container = containers("DaemonSet")[name]
    module = ["quorate_agent.statefile", "keep"] if name == "backup" else [f"quorate_agent.{name}"]
    known = subprocess.run([sys.executable, "-m", *module, "--help"], capture_output=True, text=True, timeout=60, check=True)
    for argument in container["command"][len(module) :]:
        assert re.search(rf"{argument.split('=')[0]}\b", known.stdout), argument
    variables = {variable["name"] for variable in container.get("env", [])}
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["command"]))) <= variables


def test_two_replicas_stand_by_and_prefer_different_hosts() -> None:
    deployment = only(rendered(), "Deployment")["spec"]
    assert deployment["replicas"] == 2
    assert deployment["template"]["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"
    selector = deployment["selector"]["matchLabels"]
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()
    assert only(rendered(), "PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == selector


def test_the_controller_runs_restricted() -> None:
    pod = only(rendered(), "Deployment")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }


def test_the_agent_is_three_processes_and_one_for_the_backup_and_only_report_has_a_token() -> None:
    pod = only(rendered(), "DaemonSet")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    found = {container["name"]: container for container in pod["containers"]}
    assert [found[name]["command"][0] for name in ("keeper", "pulse", "report")] == ["quorate-keeper", "quorate-pulse", "quorate-report"]
    holders = [name for name, c in found.items() if any("serviceaccount" in m["mountPath"] for m in c["volumeMounts"])]
    assert holders == ["report"]
    assert found["backup"]["command"][:2] == ["quorate-statefile", "keep"]
    privileged = [name for name, c in found.items() if c["securityContext"].get("privileged")]
    assert privileged == ["keeper", "pulse", "backup"]
    devices = [name for name, c in found.items() if any(m["mountPath"] == "/dev" for m in c["volumeMounts"])]
    assert devices == ["keeper", "pulse", "backup"]


@pytest.mark.parametrize("stops", [True, False])
def test_pulse_sees_the_hosts_processes_and_cgroups_only_if_it_is_to_stop_vms(stops: bool) -> None:
    pod = only(rendered(*([] if stops else ["agent.stopVMs=false"])), "DaemonSet")["spec"]["template"]["spec"]
    pulse = next(c for c in pod["containers"] if c["name"] == "pulse")
    place = "/run/host-cgroup"
    assert pod.get("hostPID", False) is stops
    assert f"--stopper={f'kubevirt:{place}' if stops else 'none'}" in pulse["command"]
    assert (place in [mount["mountPath"] for mount in pulse["volumeMounts"]]) is stops
    assert any(v.get("hostPath", {}).get("path") == "/sys/fs/cgroup" for v in pod["volumes"]) is stops


def test_the_agent_stays_on_every_host_and_is_never_replaced_unasked() -> None:
    daemonset = only(rendered(), "DaemonSet")["spec"]
    assert daemonset["template"]["spec"]["tolerations"] == [{"operator": "Exists"}]
    assert daemonset["updateStrategy"] == {"type": "OnDelete"}
    assert daemonset["template"]["spec"]["hostNetwork"] is True


def test_all_agent_processes_share_the_run_folder_of_the_host() -> None:
    pod = only(rendered("agent.runDir=/run/ha"), "DaemonSet")["spec"]["template"]["spec"]
    assert {v["name"]: v for v in pod["volumes"]}["run"]["hostPath"]["path"] == "/run/ha"
    for container in pod["containers"]:
        assert "--run-dir=/run/ha" in container["command"]
        assert {"name": "run", "mountPath": "/run/ha"} in container["volumeMounts"]


@pytest.mark.parametrize("name", ["pulse", "backup"])
def test_a_claim_takes_the_place_of_the_hosts_devices(name: str) -> None:
    container = containers("DaemonSet", "agent.heartbeatClaim=disk")[name]
    assert container["volumeDevices"] == [{"name": "heartbeat", "devicePath": "/dev/quorate-heartbeat-disk"}]
    assert "/dev" not in [mount["mountPath"] for mount in container["volumeMounts"]]
