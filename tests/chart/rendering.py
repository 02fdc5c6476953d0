"""The chart as Helm renders it, parsed."""

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "quorate"
HELM = Path(sys.executable).parent / "helm"
OUTSIDE = (
    "controller.enabled=false",
    "agent.enabled=false",
    "webhook.url=https://127.0.0.1:9443",
    "webhook.caBundle=Q0E=",
)
"""Values of a controller that runs outside the cluster, as the local pool uses them."""


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Helm on its own, without a cluster."""
    return subprocess.run([str(HELM), *arguments], capture_output=True, text=True, timeout=60, check=False)


@cache
def rendered(*values: str) -> list[dict[str, Any]]:
    """Every manifest of `helm template` with these `--set` values; rendered once, so not to be changed."""
    settings = [word for value in values for word in ("--set", value)]
    done = helm("template", "quorate", str(CHART), "--namespace", "quorate-system", *settings)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def only(manifests: list[dict[str, Any]], kind: str, name: str | None = None) -> dict[str, Any]:
    """The one manifest of that kind (and name)."""
    (found,) = [m for m in manifests if m["kind"] == kind and name in (None, m["metadata"]["name"])]
    return found
