"""Puts the backup on the heartbeat disks: the process `quorate-statefile keep`, beside keeper, pulse and report on every host.

report has the API token and no device; this has the devices and no token. What it writes stands in the run folder, on one host of the pool
only. A disk that hangs keeps this process waiting, and nobody else: neither a heartbeat nor a report depends on it.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from quorate_agent import wire
from quorate_agent.statefile import document
from quorate_agent.statefile.device import Device, Unusable
from quorate_agent.statefile.document import Entry
from quorate_core import backup, slot
from quorate_core.backup import Backup
from quorate_core.statement import Malformed

_LOOK_EVERY_SECONDS = 5.0
_WRITE_AT_MOST_EVERY_SECONDS = 60.0


class Keeper:
    """One thread for each disk, so that one that hangs does not keep the others from their backup."""

    def __init__(self, host: str, folder: Path, say: Callable[[str], None]) -> None:
        self._host, self._folder, self._say = host, folder, say
        self._paths: frozenset[str] = frozenset()

    def run(self) -> None:
        """Work for ever."""
        while True:
            wanted = self._wanted()
            for path in wanted - self._paths:
                threading.Thread(target=self._serve, args=(path,), name=path, daemon=True).start()
            self._paths |= wanted
            time.sleep(_LOOK_EVERY_SECONDS)

    def _config(self) -> wire.PulseConfig | None:
        try:
            return wire.PulseConfig.from_json((self._folder / wire.CONFIG_FILE).read_bytes())
        except (OSError, wire.BadMessage):
            return None  # pulse says what is wrong with it

    def _wanted(self) -> frozenset[str]:
        config = self._config()
        return frozenset(config.disks) if config is not None else frozenset()

    def _serve(self, path: str) -> None:
        said = ""
        while True:
            pause, sentence = self._round(path)
            if sentence and sentence != said:
                self._say(sentence)
            said = sentence
            time.sleep(pause)

    def _round(self, path: str) -> tuple[float, str]:
        config = self._config()
        if config is None or path not in config.disks:
            return _LOOK_EVERY_SECONDS, ""
        try:
            text = (self._folder / document.FILE).read_text()
        except (OSError, UnicodeDecodeError):
            return _LOOK_EVERY_SECONDS, ""  # another host writes
        try:
            written = put(path, bytes.fromhex(config.pool_id), text, self._host, datetime.now(UTC))
        except Unusable as why:
            return _WRITE_AT_MOST_EVERY_SECONDS, f"the backup was not written: {why}"
        if written is None:
            return _LOOK_EVERY_SECONDS, ""
        return _WRITE_AT_MOST_EVERY_SECONDS, f"{path}: backup of generation {written.generation}, {len(written.payload)} bytes, written"


def put(path: str, pool_id: bytes, text: str, host: str, now: datetime) -> Backup | None:
    """Write that document as the next backup, unless the newest one says the same; what was written. Raises Unusable."""
    with Device(path, write=True) as device:
        try:
            owner = slot.decode_header(device.header())
        except Malformed as why:
            raise Unusable(f"{path}: its header cannot be used: {why}") from why
        if owner != pool_id:
            raise Unusable(f"{path}: it belongs to pool {owner.hex()}, not to {pool_id.hex()}")
        _refuse_unfit(device)
        found = device.backups()
        best = backup.newest(found, pool_id)
        if best is not None and _text(best) == text:
            return None
        place = backup.next_place(found, pool_id)
        fresh = Backup(pool_id, place.generation, Entry(host, now.strftime("%Y-%m-%dT%H:%M:%SZ"), text).to_bytes())
        try:
            data = backup.encode(fresh)
        except ValueError as error:
            raise Unusable(f"{path}: {error}") from error
        first = _refuse_foreign(device)
        if place.copy in first:
            # Alone, so that a copy which tears has its header, and is known as ours.
            device.write(backup.offset_of(place.copy), data[: slot.BLOCK_BYTES])
        device.write(backup.offset_of(place.copy), data)
        if device.copy(place.copy) != fresh:
            raise Unusable(f"{path}: backup copy {place.copy} did not come back as it was written; copy {1 - place.copy} is as it was")
        return fresh


def _refuse_unfit(device: Device) -> None:
    # A file grows as it is written; refusing it here would leave the pools of small tests and labs without a backup.
    if not device.grows and device.size_bytes < backup.END_BYTES:
        raise Unusable(f"{device.path}: no room for the backup: {device.size_bytes} bytes; {backup.END_BYTES} are needed")
    for number in range(backup.COPIES):
        if backup.is_foreign(device.read(backup.offset_of(number), slot.BLOCK_BYTES)):
            raise _foreign(device, backup.offset_of(number))


def _refuse_foreign(device: Device) -> set[int]:
    """The copies that were never written. All of their room must be empty: what a file system left there need not begin where they do."""
    first = {number for number in range(backup.COPIES) if slot.is_empty(device.read(backup.offset_of(number), slot.BLOCK_BYTES))}
    for number in sorted(first):
        found = device.first_byte(backup.offset_of(number), backup.offset_of(number + 1))
        if found is not None:
            raise _foreign(device, found)
    return first


def _foreign(device: Device, at: int) -> Unusable:
    return Unusable(f"{device.path}: byte {at}: something else than Quorate wrote there; it is left alone")


def _text(found: Backup) -> str | None:
    try:
        return Entry.from_bytes(found.payload).text
    except document.Unreadable:
        return None
