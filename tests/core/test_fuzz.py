"""Broken slots, headers, packets and backups: each is refused with the one agreed refusal, or is byte for byte a valid one."""

import os

import pytest

from quorate_core import slot
from quorate_core.statement import Malformed
from tests.core import fuzz


def said(findings: list[fuzz.Finding]) -> list[str]:
    return [f"case {finding.case}: {finding.target}: {finding.what} {finding.data[:200].hex()}" for finding in findings[:5]]


def test_no_broken_bytes_crash_a_reader_or_pass_for_valid_ones() -> None:
    outcomes, findings = fuzz.run(range(6000))
    assert not said(findings)
    # Cases that never come past the checksum would test the checksum alone.
    assert all(outcomes[name, "refused"] > 50 for name, _ in fuzz.TARGETS)
    assert all(outcomes[name, "accepted"] > 10 for name, _ in fuzz.TARGETS if name.endswith("signed"))


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_million_broken_bytes_crash_no_reader_and_pass_for_nothing() -> None:
    outcomes, findings = fuzz.run_on_all_cores(0, 1_000_000, os.cpu_count() or 1, print)
    assert not said(findings)
    assert outcomes.total() == 1_000_000


@pytest.mark.parametrize("weak", ["no checksum", "no signature", "no bounds"])
def test_the_fuzzer_finds_a_reader_that_does_not_look(weak: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if weak == "no checksum":
        monkeypatch.setattr(slot, "_unseal", lambda block, magic: (block[: int.from_bytes(block[10:12], "little")], bytes(16), bytes(16)))
    elif weak == "no signature":
        monkeypatch.setattr("quorate_core.packet.hmac.compare_digest", lambda one, other: True)
    else:
        monkeypatch.setattr("quorate_core.pool.MAX_SLOTS", 256)
    _, findings = fuzz.run(range(4000))
    assert findings


def test_a_case_is_the_same_bytes_every_time() -> None:
    with pytest.raises(Malformed):
        slot.decode(fuzz.CORPUS["slot"][0][:-1])
    assert [fuzz.play(case)[:2] for case in range(40)] == [fuzz.play(case)[:2] for case in range(40)]
