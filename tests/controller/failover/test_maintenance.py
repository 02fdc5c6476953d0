"""Maintenance never takes a host with VMs from under its watchdog."""

import pytest

from quorate_api.hahost import HAHost
from quorate_controller.failover import certificates


@pytest.mark.parametrize(
    ("armed", "vms", "maintenance"),
    [
        (True, {"protected": 0, "bestEffort": 0, "unprotected": 0}, True),
        (True, {"protected": 0, "bestEffort": 0, "unprotected": 1}, False),
        (True, None, False),
        (False, {"protected": 2}, True),
    ],
)
def test_an_armed_host_is_in_maintenance_only_when_it_is_known_to_be_empty(
    armed: bool, vms: dict[str, int] | None, maintenance: bool
) -> None:
    status: dict[str, object] = {"agent": {"state": "Armed" if armed else "Joining", "armed": armed}}
    if vms is not None:
        status["vms"] = vms
    host = HAHost.model_validate({"metadata": {"name": "h"}, "spec": {"pool": "p", "maintenance": True}, "status": status})
    assert certificates.facts_of(host, None).maintenance is maintenance
