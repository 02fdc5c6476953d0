"""`quorate explain host` shows what the agent says of itself, word for word: what keeps it from arming, what is wrong with a channel."""

from dataclasses import replace
from pathlib import Path

import pytest

from quorate_agent.pulse import describe
from quorate_api.hahost import AgentReport
from quorate_core.eviction import Eviction
from quorate_core.heart import Heart
from quorate_core.pool import Member, PoolConfig
from quorate_core.slot import Evidence, Issued
from quorate_core.statement import Phase
from quorate_core.timing import STANDARD

from .command import cluster, dump, quorate

CONFIG = PoolConfig(bytes(range(1, 17)), (Member(0, "h1"), Member(1, "h2"), Member(2, "h3")), STANDARD)
WELL = Heart("h1", bytes(16), 7, config=CONFIG, claimed=True, disk_problem="", evidence_at=99.0)
FINE = describe.Troubles(("",))


def explained(folder: Path, heart: Heart, troubles: describe.Troubles = FINE) -> str:
    """What the command prints of host h1 whose pulse stands as that."""
    issued_at = {(c.slot, c.incarnation): "2026-01-01T00:00:00+00:00" for c in heart.issued}
    report = AgentReport.model_validate({**describe.state(heart, 100.0, troubles, issued_at, "boot"), "addresses": ["10.0.0.1", ""]})
    host = {
        "apiVersion": "quorate.dev/v1alpha1",
        "kind": "HAHost",
        "metadata": {"name": "h1"},
        "spec": {"pool": "p"},
        "status": {"slot": 0, "address": "10.0.0.1", "agent": report.to_json()},
    }
    done = quorate("explain", "host", "h1", "-f", dump(folder, [*cluster(), host]))
    assert done.returncode == 0, done.stderr
    return " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("message", "troubles"),
    [
        ("no usable watchdog: /dev/watchdog: No such file or directory", FINE),
        (
            "no usable watchdog: /dev/watchdog is held by another program (systemd's RuntimeWatchdogSec, watchdogd?); it is never shared",
            FINE,
        ),
        ("its slot is being written by incarnation 0000000000000009 of h1; two machines may share one slot", FINE),
        ("the heartbeat disk's first block is format version 9; this agent reads version 2; it is not overwritten", FINE),
        ("heartbeat disk /dev/sdb: it is too small: 65536 bytes; a heartbeat disk needs 266240", FINE),
        ("h2 has another pool configuration (its licence is 12 s, here it is 20 s)", FINE),
        (
            "h2 is not seen on the network; packets from 10.0.0.2 (h2) are dropped: signature (another key?)",
            describe.Troubles(("",), ("packets from 10.0.0.2 (h2) are dropped: signature (another key?)",)),
        ),
    ],
    ids=["no watchdog", "busy watchdog", "one slot", "newer disk", "small disk", "other timing", "other key"],
)
def test_what_keeps_a_host_from_arming_is_shown_word_for_word(tmp_path: Path, message: str, troubles: describe.Troubles) -> None:
    heart = replace(WELL, phase=Phase.REFUSED, message=message.partition("; packets")[0])
    assert message in explained(tmp_path, heart, troubles)


def test_a_broken_disk_and_a_broken_path_are_shown_though_the_others_carry_the_heartbeat(tmp_path: Path) -> None:
    heart = replace(WELL, phase=Phase.ARMED, message="", confirmed=True)
    troubles = describe.Troubles(("", "eth1: this host has no address on eth1"), (), "heartbeat disk /dev/sdc: Input/output error")
    shown = explained(tmp_path, heart, troubles)
    assert "storage works, sees h1: heartbeat disk /dev/sdc: Input/output error" in shown
    assert "network works, sees h1: eth1: this host has no address on eth1" in shown
    assert "heartbeat addresses: 10.0.0.1, none" in shown


def test_evictions_certificates_and_a_life_without_storage_are_shown(tmp_path: Path) -> None:
    heart = replace(
        WELL,
        phase=Phase.ARMED,
        message="",
        confirmed=True,
        storageless=True,
        deadline=120.0,
        evictions=(Eviction(1, 9, STANDARD.values),),
        issued=(Issued(2, 8, 60.0, 53.0, Evidence.EVICTION),),
    )
    shown = explained(tmp_path, heart)
    assert "it lives on the network alone" in shown
    assert "it has evicted h2, incarnation 0000000000000009" in shown
    assert "it has certified h3 dead (Eviction): evicted 60.0 s ago (R_e 53 s)" in shown
    assert "the others know it dead after 59 s, 53 s after an eviction" in shown
