"""Pulse: beats on the heartbeat disk and the network, and produces the deadline until which this host may run its VMs.

One loop: wait for something or for time to pass, hand it to `heartbeat.step`, do what it says. What may hang is elsewhere: the disk in its
own thread, the API in report. It needs `config.json` in its run directory (see `wire.PulseConfig`) and a keeper; nothing else.
"""

import argparse
import os
import secrets
import select
import signal
import sys
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

from quorate_agent import clock, realtime, wire
from quorate_agent.alone import stay_alone
from quorate_agent.pulse import describe, remembered
from quorate_agent.pulse.disk import Disk, Order
from quorate_agent.pulse.links import Audience, KeeperLink
from quorate_agent.pulse.network import Network
from quorate_agent.voice import Voice
from quorate_core import heart as hearts
from quorate_core import heartbeat, packet
from quorate_core.statement import Phase, Statement

_PRIORITY = 1
_LONGEST_SLEEP_SECONDS = 0.25
_CONFIG_EVERY_SECONDS = 1.0
_STATE_EVERY_SECONDS = 1.0


class Pulse:
    """The shell around `heartbeat.step`."""

    def __init__(self, host: str, boot_id: str, voice: Voice) -> None:
        self._lock = stay_alone(wire.PULSE_LOCK)
        self._voice = voice
        self._boot_id = boot_id
        self._heart = hearts.Heart(host, uuid.UUID(boot_id).bytes, secrets.randbits(64) or 1)
        self._config: wire.PulseConfig | None = None
        self._config_seen: tuple[int, int] | None = None
        self._remembered = remembered.load(boot_id)
        self._disk_path = ""
        self._disk, self._network = Disk(), Network()
        self._keeper, self._audience = KeeperLink(), Audience()
        self._drops: Counter[str] = Counter()
        self._issued_at: dict[tuple[int, int], str] = {}
        self._next_config_at = self._next_state_at = 0.0
        self.stop_asked = False

    def run(self) -> None:
        """Beat until SIGTERM. The keeper stays; a pulse that comes back within the licence goes on as the same incarnation."""
        while not self.stop_asked:
            now = clock.now()
            if now >= self._next_config_at:
                self._next_config_at = now + _CONFIG_EVERY_SECONDS
                self._look_for_config()
            self._keeper.connect(now)
            sources = [s for s in (self._disk, self._network, self._keeper, self._audience) if s.fileno() >= 0]
            select.select(sources, [], [], self._sleep(now))
            self._take_in()
            self._step(hearts.Tick(clock.now()))
            self._describe()

    def _sleep(self, now: float) -> float:
        heart = self._heart
        due = [now + _LONGEST_SLEEP_SECONDS]
        if heart.config is not None and heart.phase is not Phase.FENCING and heart.keeper is not None:
            due += [heart.next_cycle_at] if heart.pending is None else []
            due += [heart.next_packet_at] if heart.claimed else []
        # Never shorter than a few milliseconds: a time that is due but not acted on must not become a busy loop.
        return max(0.005, min(due) - now)

    def _take_in(self) -> None:
        for cycle in self._disk.results():
            self._step(hearts.CycleDone(clock.now(), cycle))
        for data in self._network.receive():
            self._hear(data)
        try:
            said, lost = self._keeper.hear()
        except wire.BadMessage as error:
            self._voice.say(str(error), loud=True)
            said, lost = [], False
        for keeper in said:
            self._step(hearts.KeeperSaid(clock.now(), keeper))
        if lost:
            self._voice.say("the keeper is gone", loud=True)
            self._step(hearts.KeeperGone(clock.now()))
        self._audience.welcome()

    def _hear(self, data: bytes) -> None:
        config = self._config
        if config is None:
            return
        said = packet.decode(data, bytes.fromhex(config.pool_id), config.key)
        if isinstance(said, packet.Drop):
            self._drops[said] += 1
        else:
            self._step(hearts.PacketHeard(clock.now(), said))

    def _step(self, event: hearts.Event) -> None:
        self._heart, actions = heartbeat.step(self._heart, event)
        for action in actions:
            self._act(action, event.now)

    def _act(self, action: hearts.Action, now: float) -> None:
        match action:
            case hearts.StartCycle():
                self._choose_disk()
                self._disk.order(Order(self._disk_path, now, action))
            case hearts.SendPacket(said):
                self._send(said)
            case hearts.OpenWatchdog(timeout_seconds):
                device = self._config.watchdog_device if self._config else ""
                self._keeper.tell(wire.message("open", device=device, timeoutSeconds=timeout_seconds))
            case hearts.GiveDeadline(incarnation, deadline):
                if self._remember_disk():
                    self._keeper.tell(wire.message("deadline", incarnation=f"{incarnation:016x}", deadline=deadline))
            case hearts.ReleaseKeeper(incarnation):
                self._keeper.tell(wire.message("release", incarnation=f"{incarnation:016x}"))
            case hearts.CountDrop(reason):
                self._drops[reason] += 1
            case hearts.Say(sentence, loud):
                self._voice.say(sentence, loud=loud)

    def _choose_disk(self) -> None:
        # While a licence runs, its evidence stays on the disk it began on, also when this pulse is not the one that began it.
        if self._heart.deadline is None and self._config is not None:
            self._disk_path = self._config.disk
        elif not self._disk_path:
            self._disk_path = self._remembered or (self._config.disk if self._config else "")
        self._remember_disk()

    def _remember_disk(self) -> bool:
        """Whether the next pulse will know the disk. A deadline that it could renew on another one is not given."""
        if self._remembered == self._disk_path:
            return True
        try:
            remembered.save(self._boot_id, self._disk_path)
        except OSError as error:
            self._voice.say(f"{wire.DISK_FILE} cannot be saved ({error.strerror}); no licence is asked for", loud=True)
            return False
        self._remembered = self._disk_path
        return True

    def _send(self, said: Statement) -> None:
        config = self._config
        if config is not None:
            others = {m.host: m.address for m in config.members if m.host != self._heart.host}
            self._network.send(packet.encode(said, bytes.fromhex(config.pool_id), config.key), others, config.port)

    def _look_for_config(self) -> None:
        self._bind()  # again each time: the address may come up after the agent
        try:
            found = Path(wire.CONFIG_FILE).stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._config_seen:
                return
            self._config_seen = stamp
            config = wire.PulseConfig.from_json(Path(wire.CONFIG_FILE).read_bytes())
        except FileNotFoundError:
            return
        except (OSError, wire.BadMessage) as error:
            self._voice.say(f"the configuration is not taken over: {error}", loud=True)
            return
        self._config = config
        self._bind()
        self._step(hearts.Configured(clock.now(), config.core()))

    def _bind(self) -> None:
        members = self._config.members if self._config else ()
        mine = next((m for m in members if m.host == self._heart.host), None)
        if self._config is not None and mine is not None:
            self._network.bind(mine.address, self._config.port)

    def _describe(self) -> None:
        now = clock.now()
        for issued in self._heart.issued:
            self._issued_at.setdefault((issued.slot, issued.incarnation), datetime.now(UTC).isoformat())
        if now < self._next_state_at:
            return
        self._next_state_at = now + _STATE_EVERY_SECONDS
        problem = self._network.problem or "; ".join(f"{host}: {why}" for host, why in sorted(self._network.unsent.items()))
        described = describe.state(self._heart, now, problem, self._issued_at, self._boot_id)
        self._audience.tell(wire.message("state", agent=described, drops=dict(self._drops)))


def main() -> int:
    """The process `quorate-pulse`."""
    parser = argparse.ArgumentParser(prog="quorate-pulse", description="Beat on the heartbeat disk and the network; produce the deadline.")
    parser.add_argument("--run-dir", required=True, type=Path, help="folder on the host's tmpfs shared by the agent's processes")
    parser.add_argument("--node", required=True, help="name of this host (its Node and HAHost)")
    parser.add_argument("--boot-id-file", type=Path, default=Path("/proc/sys/kernel/random/boot_id"), help="file with the id of this boot")
    arguments = parser.parse_args()
    voice = Voice("quorate-pulse")
    try:
        boot_id = str(uuid.UUID(arguments.boot_id_file.read_text().strip()))
        os.chdir(arguments.run_dir)  # a socket's path may have 107 bytes only; relative names are short
        pulse = Pulse(arguments.node, boot_id, voice)
    except (OSError, ValueError, wire.BadMessage) as error:
        voice.say(f"cannot start: {error}", loud=True)
        return 1

    def stop(*_: object) -> None:
        pulse.stop_asked = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    for refused in realtime.harden(_PRIORITY):
        voice.say(refused, loud=True)
    pulse.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
