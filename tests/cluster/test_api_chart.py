"""`helm install` of the whole chart on the real API server."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
HELM = Path(sys.executable).parent / "helm"


def helm(cluster: Any, *arguments: str) -> str:
    done = subprocess.run(
        [str(HELM), *arguments, "--kubeconfig", str(cluster.kubeconfig), "--namespace", "quorate-system"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_api_server_accepts_the_installed_chart_and_every_object_of_it(cluster: Any) -> None:
    (release,) = json.loads(helm(cluster, "list", "-o", "json"))
    assert release["status"] == "deployed"
    assert "serverside-applied (server dry run)" in cluster.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--dry-run=server",
        "-f",
        "-",
        stdin=helm(cluster, "get", "manifest", release["name"]),
    )


def test_the_api_server_accepts_controller_and_agents_too(cluster: Any) -> None:
    whole = [m for m in yaml.safe_load_all(helm(cluster, "template", "quorate", str(ROOT / "charts" / "quorate"))) if m]
    for manifest in whole:
        # The installed ones have a URL, which a server-side apply of a Service beside it does not take away.
        if manifest["kind"].endswith("WebhookConfiguration"):
            manifest["metadata"]["name"] = "quorate-inside"
    said = cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=yaml.safe_dump_all(whole))
    assert said.count("(server dry run)") == len(whole)
    for what in ("deployment.apps/quorate-controller", "daemonset.apps/quorate-agent", "service/quorate-webhook"):
        assert f"{what} serverside-applied (server dry run)" in said
    assert "warning" not in said.lower()
