"""How long a dead host must have been watched: by the timing that bound it, not by one that its pool was given later."""

import pytest

from quorate_api.hahost import HAHost
from quorate_api.hapool import HAPool
from quorate_controller.failover import certificates
from quorate_core.facts import HostPhase

from ..objects import Json, hahost, pool

FAST_SECONDS, STANDARD_SECONDS = 40.0, 59.0


@pytest.mark.parametrize(
    ("profile", "reported", "watched", "phase"),
    [
        ("Standard", FAST_SECONDS, FAST_SECONDS, HostPhase.FENCED),
        ("Fast", STANDARD_SECONDS, FAST_SECONDS, HostPhase.LOST),
        ("Fast", STANDARD_SECONDS, STANDARD_SECONDS, HostPhase.FENCED),
        ("Standard", None, FAST_SECONDS, HostPhase.LOST),
        ("Standard", None, STANDARD_SECONDS, HostPhase.FENCED),
    ],
)
def test_a_change_of_timing_neither_voids_nor_shortens_the_bound_of_a_host_that_was_armed_before(
    profile: str, reported: float | None, watched: float, phase: HostPhase
) -> None:
    issued: Json = {
        "host": "n1", "incarnation": "a" * 16, "issuedBy": "n2", "evidence": "", "silentSeconds": watched + 1, "boundSeconds": watched,
        "issuedAt": "2030-01-01T00:00:00Z",
    }  # fmt: skip
    victim, issuer, in_pool = hahost("n1"), hahost("n2"), pool()
    victim["status"]["agent"] |= {"incarnation": "a" * 16, **({"boundSeconds": reported} if reported else {})}
    issuer["status"]["agent"] |= {"incarnation": "b" * 16, "certificates": [issued]}
    in_pool["spec"]["heartbeat"]["profile"] = profile
    found = certificates.verdicts(HAPool.model_validate(in_pool), [HAHost.model_validate(host) for host in (victim, issuer)])
    assert found["n1"].phase is phase
