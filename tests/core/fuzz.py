"""Feeds broken bytes to everything that reads a disk or the network: `python -m tests.core.fuzz --count 1000000`.

Two kinds of cases. In one a valid block, packet or backup is damaged: it must be refused, or be byte for byte one that was valid. In the
other the damage is signed, as if the writer had made the mistake: it passes checksum and signature and meets the checks behind them; what
is then accepted must be within bounds and survive being written again. Anything but the one agreed refusal is a finding. Case N is always
the same bytes: `--from N --count 1` plays it again.
"""

import argparse
import hashlib
import hmac
import multiprocessing
import os
import random
import struct
import sys
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from quorate_core import backup, packet, slot, statement
from quorate_core.backup import Backup
from quorate_core.crc32c import crc32c
from quorate_core.packet import Drop
from quorate_core.slot import Evidence, Issued, Slot
from quorate_core.statement import Known, Malformed, Phase, Statement, Views
from quorate_core.timing import FAST, STANDARD

POOL, KEY = bytes(range(1, 17)), b"k" * 32
_SLOTS = 64
_CHUNK = 2000
_EDGES = (0, 1, 2, 62, 63, 64, 65, 127, 128, 255, 256, 4091, 4092, 4093, 65535, 2**31, 2**32 - 1, 2**63, 2**64 - 1)


@dataclass(frozen=True, slots=True)
class Finding:
    """A case that was not refused as it should be."""

    case: int
    target: str
    what: str
    data: bytes


def _statement(draw: random.Random, known: int) -> Statement:
    heard = tuple(Known(i, draw.getrandbits(64), draw.getrandbits(32)) for i in draw.sample(range(64), known))
    views = Views(*(draw.getrandbits(64) for _ in range(3)))
    name = "".join(draw.choices("abcdefgh-.0", k=draw.choice((1, 6, 12, 40))))
    life = draw.getrandbits(64) | 1
    return Statement(name, draw.randrange(64), life, draw.getrandbits(64), draw.randbytes(32), draw.choice(list(Phase)), views, heard)


def _slot(draw: random.Random, known: int, condemned: int) -> bytes:
    victims = draw.sample(range(64), condemned)
    issued = tuple(Issued(v, draw.getrandbits(64), draw.randrange(100), 59.0, draw.choice(list(Evidence))) for v in victims)
    said = _statement(draw, known)
    values = draw.choice((STANDARD, FAST)).values
    evicted = tuple((v, draw.getrandbits(64)) for v in victims)
    return slot.encode(Slot(POOL, draw.randbytes(16), said, values, True, False, 3, 2**64 - 1, draw.getrandbits(64), evicted, issued))


def _corpus() -> dict[str, list[bytes]]:
    draw = random.Random(4)
    # Small ones above all, as checksums take their time in Python; but the fullest slot is among them.
    slots = [_slot(draw, known, condemned) for known, condemned in ((0, 0), (1, 0), (2, 0), (2, 1), (4, 0), (4, 2), (16, 3))]
    packets = [packet.encode(_statement(draw, known), POOL, KEY) for known in (0, 1, 2, 4, 16, 64)]
    texts = [b"", b"{}", b'{"version": 1}' * 9, draw.randbytes(5000)]
    copies = [backup.encode(Backup(POOL, generation, text)) for generation, text in enumerate(texts)]
    headers = [slot.encode_header(draw.randbytes(16)) for _ in range(4)]
    return {"slot": [*slots, _slot(draw, 64, 64)], "packet": packets, "backup": copies, "header": headers}


CORPUS = _corpus()
_VALID = {name: frozenset(whole) for name, whole in CORPUS.items()}


def _flip(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        bit = draw.randrange(len(data) * 8)
        data[bit // 8] ^= 1 << bit % 8


def _set_integer(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    """A length, count or index of any width, anywhere, at the edge of what it may be."""
    size = draw.choice((1, 2, 4, 8))
    at = draw.randrange(len(data))
    data[at : at + size] = (draw.choice(_EDGES) % 256**size).to_bytes(size, "little")[: len(data) - at]


def _truncate(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    del data[draw.randrange(len(data)) :]


def _extend(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    data += draw.choice((draw.randbytes(draw.randrange(1, 64)), bytes(draw.randrange(1, 64)), draw.choice(corpus)))


def _shift(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    """A byte too many or too few; the length stays."""
    at = draw.randrange(len(data))
    if draw.random() < 0.5:
        data.insert(at, draw.randrange(256))
        data.pop()
    else:
        data.pop(at)
        data.append(0)


def _splice(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    """The beginning of one and the rest of another: at a sector, as a write tears, or anywhere."""
    other = draw.choice(corpus)
    at = draw.randrange(len(data))
    at = at // 512 * 512 if draw.random() < 0.5 else at
    data[at:] = other[at:]


def _overwrite(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    at, size = draw.randrange(len(data)), draw.choice((4, 16, 64, 512))
    fresh = draw.randbytes(size) if draw.random() < 0.6 else bytes(size)
    data[at : at + size] = fresh[: len(data) - at]


def _noise(draw: random.Random, data: bytearray, corpus: list[bytes]) -> None:
    keep = draw.choice((0, 0, 8, 12, 28))
    data[keep:] = draw.randbytes(len(data) - keep) if len(data) > keep else b""


_DAMAGES = (_flip, _flip, _set_integer, _set_integer, _truncate, _extend, _shift, _splice, _overwrite, _noise)


def _damaged(draw: random.Random, name: str) -> bytes:
    data = bytearray(draw.choice(CORPUS[name]))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if data:
            draw.choice(_DAMAGES)(draw, data, CORPUS[name])
    return bytes(data)


def _harm_body(draw: random.Random, body: bytes) -> bytes:
    """Damage to what a signature covers, most of it where the numbers are."""
    data = bytearray(body)
    for _ in range(draw.choice((1, 1, 2, 4))):
        if data:
            draw.choice((_flip, _set_integer, _set_integer, _truncate, _extend, _shift, _overwrite))(draw, data, [body])
    return bytes(data)


def _slot_damaged(draw: random.Random) -> tuple[bytes, str]:
    data = _damaged(draw, "slot")
    slot.decode(data)
    return data, "" if data in _VALID["slot"] else "a changed slot was accepted"


def _header_damaged(draw: random.Random) -> tuple[bytes, str]:
    data = _damaged(draw, "header")
    slot.decode_header(data)
    return data, "" if data in _VALID["header"] else "a changed header was accepted"


def _packet_damaged(draw: random.Random) -> tuple[bytes, str]:
    data = _damaged(draw, "packet")
    found = packet.decode(data, POOL, KEY)
    if isinstance(found, Drop):
        raise Malformed(found)
    return data, "" if data in _VALID["packet"] else "a changed packet was accepted"


def _backup_damaged(draw: random.Random) -> tuple[bytes, str]:
    data = _damaged(draw, "backup")
    backup.decode(data)
    # What lies behind a copy on the disk is not part of it.
    return data, "" if data[: backup.length_of(data[:4096])] in _VALID["backup"] else "a changed backup was accepted"


def _slot_signed(draw: random.Random) -> tuple[bytes, str]:
    whole = draw.choice(CORPUS["slot"])
    (length,) = struct.unpack_from("<H", whole, 10)
    body = _harm_body(draw, whole[slot._PREFIX.size : length])[: slot.BLOCK_BYTES - 4 - slot._PREFIX.size]
    data = slot._seal(slot._PREFIX.pack(b"QUORSLOT", slot.VERSION, slot._PREFIX.size + len(body), POOL, bytes(16)) + body)
    found = slot.decode(data)
    if found.statement.slot >= _SLOTS or any(c.slot >= _SLOTS for c in found.certificates):
        return data, "a slot out of range was accepted"
    found.timing.release_after_silence_seconds  # noqa: B018  # an observer computes it before it trusts anything
    return data, "" if slot.decode(slot.encode(found)) == found else "a slot reads otherwise once written again"


def _packet_signed(draw: random.Random) -> tuple[bytes, str]:
    body = _harm_body(draw, draw.choice(CORPUS["packet"])[packet._PREFIX.size : -32])
    head = packet._PREFIX.pack(b"QUORBEAT", packet.VERSION, (packet._PREFIX.size + len(body)) % 65536, POOL)
    data = head + body + hmac.new(KEY, head + body, hashlib.sha256).digest()
    found = packet.decode(data, POOL, KEY)
    if isinstance(found, Drop):
        raise Malformed(found)
    if found.slot >= _SLOTS or any(k.slot >= _SLOTS for k in found.known):
        return data, "a slot out of range was accepted"
    return data, "" if statement.unpack(statement.pack(found), 0)[0] == found else "a packet reads otherwise once written again"


def _backup_signed(draw: random.Random) -> tuple[bytes, str]:
    payload = draw.choice((b"", b"hello", draw.randbytes(300), bytes(9000)))
    stored = zlib.compress(payload)
    if draw.random() < 0.8:
        stored = _harm_body(draw, stored)[:9000]
    full, length = (draw.choice(_EDGES) % 2**32 if draw.random() < 0.2 else len(right) for right in (payload, stored))
    head = backup._HEAD.pack(b"QUORBACK", backup.VERSION, POOL, 1, length, full, hashlib.sha256(stored).digest())
    data = (head + struct.pack("<I", crc32c(head))).ljust(4096, b"\0") + stored.ljust(-(-len(stored) // 4096) * 4096, b"\0")
    found = backup.decode(data)
    same = len(found.payload) == full and zlib.decompress(stored) == found.payload
    return data, "" if same else "a payload was accepted that is not the one stored"


TARGETS: tuple[tuple[str, Callable[[random.Random], tuple[bytes, str]]], ...] = (
    ("slot, damaged", _slot_damaged),
    ("packet, damaged", _packet_damaged),
    ("slot, damaged and signed", _slot_signed),
    ("slot, damaged", _slot_damaged),
    ("packet, damaged and signed", _packet_signed),
    ("header, damaged", _header_damaged),
    ("backup, damaged", _backup_damaged),
    ("backup, damaged and signed", _backup_signed),
)


def play(case: int) -> tuple[str, str, Finding | None]:
    """One case: its target, what became of it, and what is wrong with that. "unchanged": the damage left the bytes as they were."""
    draw = random.Random(case)
    name, attack = TARGETS[case % len(TARGETS)]
    try:
        data, wrong = attack(draw)
    except Malformed:
        return name, "refused", None
    except Exception:  # any other exception is what this looks for
        return name, "crashed", Finding(case, name, traceback.format_exc(limit=-3), b"")
    outcome = "accepted" if name.endswith("signed") or wrong else "unchanged"
    return name, outcome, Finding(case, name, wrong, data) if wrong else None


def run(cases: range) -> tuple[Counter[tuple[str, str]], list[Finding]]:
    """All those cases: how many ended how, and the findings."""
    outcomes: Counter[tuple[str, str]] = Counter()
    findings = []
    for case in cases:
        name, outcome, finding = play(case)
        outcomes[name, outcome] += 1
        if finding is not None:
            findings.append(finding)
    return outcomes, findings


def _chunks(first: int, count: int) -> Iterator[range]:
    for start in range(first, first + count, _CHUNK):
        yield range(start, min(start + _CHUNK, first + count))


def run_on_all_cores(first: int, count: int, jobs: int, say: Callable[[str], None]) -> tuple[Counter[tuple[str, str]], list[Finding]]:
    """The same on several cores, with progress."""
    outcomes: Counter[tuple[str, str]] = Counter()
    findings: list[Finding] = []
    began = said = time.monotonic()
    with multiprocessing.Pool(jobs) as workers:
        for some, found in workers.imap_unordered(run, _chunks(first, count)):
            outcomes += some
            findings += found
            if time.monotonic() - said >= 5:
                said = time.monotonic()
                done = sum(outcomes.values())
                say(f"{done} of {count} cases, {len(findings)} findings, {done / (said - began):.0f} a second")
    return outcomes, findings


def main() -> int:
    """Print what became of the cases; 1 if there is a finding."""
    parser = argparse.ArgumentParser(prog="python -m tests.core.fuzz", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--from", dest="first", type=int, default=0, help="number of the first case")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    began = time.monotonic()
    outcomes, findings = run_on_all_cores(options.first, options.count, options.jobs, lambda s: print(s, file=sys.stderr, flush=True))
    for (name, outcome), number in sorted(outcomes.items()):
        print(f"{name:28} {outcome:9} {number}")
    for finding in findings[:20]:
        print(f"FINDING case {finding.case}: {finding.target}: {finding.what} {finding.data[:120].hex()}")
    print(f"{sum(outcomes.values())} cases from {options.first} in {time.monotonic() - began:.0f} s: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
