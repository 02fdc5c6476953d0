"""Pulse: beats on the heartbeat disks and the network, and produces the deadline until which this host may run its VMs.

One loop: wait for something or for time to pass, hand it to `heartbeat.step`, do what it says. What may hang is elsewhere: disks and the
stopping of VMs in threads of their own, the API in report. It needs `config.json` in its run directory (see `wire.PulseConfig`) and a
keeper. It leaves `licence.json` there for the pulse that comes after it (see `remembered`).
"""

import secrets
import select
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quorate_agent import clock, process, wire
from quorate_agent.alone import stay_alone
from quorate_agent.histogram import CYCLE_BOUNDS_SECONDS, Histogram
from quorate_agent.pulse import alarms, describe, kubevirt, remembered, stopper
from quorate_agent.pulse.dropped import Dropped
from quorate_agent.pulse.links import Audience, KeeperLink
from quorate_agent.pulse.network import Network, Received
from quorate_agent.pulse.reasons import Reasons
from quorate_agent.pulse.storage import Storage
from quorate_agent.voice import Voice
from quorate_core import heart as hearts
from quorate_core import heartbeat, packet
from quorate_core.keeping import Mode
from quorate_core.statement import Phase, Statement

_PRIORITY = 1
_LONGEST_SLEEP_SECONDS = 0.25
_CONFIG_EVERY_SECONDS = 1.0
_STATE_EVERY_SECONDS = 1.0


class Pulse:
    """The shell around `heartbeat.step`."""

    def __init__(self, host: str, boot_id: str, voice: Voice, who_stops: stopper.Stopper | None = None) -> None:
        self._lock = stay_alone(wire.PULSE_LOCK)
        self._voice = voice
        self._boot_id = boot_id
        self._heart = hearts.Heart(host, uuid.UUID(boot_id).bytes, secrets.randbits(64) or 1)
        self._config: wire.PulseConfig | None = None
        self._config_seen: tuple[int, int] | None = None
        self._bound: wire.PulseConfig | None = None
        self._unreadable = ""
        try:
            self._bound = remembered.load(boot_id)
        except wire.BadMessage as error:
            self._unreadable = str(error)
        self._remembered = self._bound
        self._may_resume = self._bound is not None
        self._refused: wire.PulseConfig | None = None
        self._storage, self._network = Storage(), Network()
        self._keeper, self._audience = KeeperLink(), Audience()
        self._stopper = stopper.Worker(who_stops) if who_stops is not None else None
        self._doubt = ""
        self._complaints: dict[str, str] = {}
        self._dropped, self._alarms, self._cycles = Dropped(), alarms.Alarms(), Histogram(CYCLE_BOUNDS_SECONDS)
        self._reasons = Reasons()
        self._failed_cycles = 0
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
            sources = [*self._storage.sources(), *self._network.sources(), self._keeper, self._audience, self._stopper]
            select.select([s for s in sources if s is not None and s.fileno() >= 0], [], [], self._sleep(now))
            self._take_in()
            self._step(hearts.Tick(clock.now()))
            self._say(self._alarms.tick(self._heart, clock.now()))
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
        # The keeper first: after a pause of this process it may have said long ago what decides about the rest.
        try:
            said, lost = self._keeper.hear()
        except wire.BadMessage as error:
            self._complain("keeper", f"{error}; restart the agent")
            said, lost = [], False
        for keeper in said:
            self._complain("keeper", "")
            self._step(hearts.KeeperSaid(clock.now(), keeper))
        if lost:
            self._voice.say("the keeper is gone", loud=True)
            self._step(hearts.KeeperGone(clock.now()))
        for cycle in self._storage.results():
            self._cycles.observe(cycle.completed_at - cycle.issued_at)
            self._failed_cycles += bool(cycle.error)
            self._say(self._alarms.cycle(self._heart, cycle))
            self._step(hearts.CycleDone(clock.now(), cycle))
        for received in self._network.receive():
            self._hear(received)
        for counted in self._stopper.answers() if self._stopper is not None else ():
            self._count(counted)
        self._audience.welcome()

    def _hear(self, received: Received) -> None:
        config, now = self._config, clock.now()
        if config is None:
            return
        said = packet.decode(received.data, bytes.fromhex(config.pool_id), config.key)
        if isinstance(said, packet.Drop):
            self._dropped.count(said, received.sender, now)
            return
        if self._step(hearts.PacketHeard(now, said), received.sender) <= {packet.Drop.DUPLICATE}:
            self._network.heard(received.path, said.host, now)

    def _step(self, event: hearts.Event, sender: str = "") -> set[str]:
        """Take the step and act; for what reason a packet was dropped, if one was."""
        self._heart, actions = heartbeat.step(self._heart, event)
        for action in actions:
            self._act(action, event.now, sender)
        return {action.reason for action in actions if isinstance(action, hearts.CountDrop)}

    def _act(self, action: hearts.Action, now: float, sender: str) -> None:
        match action:
            case hearts.StartCycle():
                pool_id = self._heart.config.pool_id if self._heart.config is not None else b""
                self._storage.order(pool_id, now, action)
            case hearts.SendPacket(said):
                self._send(said)
            case hearts.OpenWatchdog(timeout_seconds):
                device = self._config.watchdog_device if self._config else ""
                self._keeper.tell(wire.message("open", device=device, timeoutSeconds=timeout_seconds))
            case hearts.GiveDeadline(incarnation, deadline):
                if self._remember():
                    self._keeper.tell(wire.message("deadline", incarnation=f"{incarnation:016x}", deadline=deadline))
            case hearts.ReleaseKeeper(incarnation):
                self._keeper.tell(wire.message("release", incarnation=f"{incarnation:016x}"))
            case hearts.StopVms():
                if self._stopper is not None:
                    self._stopper.stop()
            case hearts.CountDrop(reason):
                self._dropped.count(reason, sender, now)
            case hearts.Say():
                self._say([action])

    def _say(self, sentences: list[hearts.Say]) -> None:
        for one in sentences:
            self._voice.say(one.sentence, loud=one.loud)
            self._reasons.heard(one.sentence)

    def _count(self, counted: stopper.Counted) -> None:
        if counted.doubt != self._doubt:
            self._doubt = counted.doubt
            if counted.doubt:
                self._voice.say(f"the VMs of this host cannot be counted: {counted.doubt}", loud=True)
        if counted.left is not None:
            self._step(hearts.VmsCounted(clock.now(), counted.left))

    def _complain(self, subject: str, sentence: str) -> None:
        """Say it once, and to report for as long as it lasts; "" once it is well."""
        if sentence and sentence != self._complaints.get(subject):
            self._voice.say(sentence, loud=True)
        self._complaints[subject] = sentence

    def _remember(self) -> bool:
        """Whether the next pulse will know what the licence belongs to. A deadline that it could renew on other disks is not given."""
        self._bind()
        if self._bound is None or self._remembered == self._bound:
            return self._bound is not None
        try:
            remembered.save(self._boot_id, self._bound)
        except OSError as error:
            known = self._remembered is not None and _heartbeats(self._remembered) == _heartbeats(self._bound)
            what = "the next pulse will begin with the configuration before" if known else "no licence is asked for"
            self._complain("licence", f"{wire.LICENCE_FILE} cannot be saved ({error.strerror}); {what}")
            return known
        self._complain("licence", "")
        self._remembered = self._bound
        return True

    def _send(self, said: Statement) -> None:
        config = self._config
        if config is not None:
            others = [m for m in config.members if m.host != self._heart.host]
            self._network.send(packet.encode(said, bytes.fromhex(config.pool_id), config.key), others, config.port)

    def _look_for_config(self) -> None:
        if self._unreadable and not self._forgets_licence():
            return
        if self._config is not None:
            self._network.bind(self._config, self._heart.host, clock.now())  # again each time: an address may come up after the agent
        if self._may_resume and self._bound is not None:
            # A licence goes on under the configuration that it belongs to; the present one is read when it is known whether there is one.
            if self._config is None:
                self._take_over(self._bound)
            self._may_resume = self._heart.keeper is None or self._heart.resuming
            return
        if self._refused is not None and self._heart.deadline is None:
            self._take_over(self._refused)
        try:
            found = Path(wire.CONFIG_FILE).stat()
            stamp = (found.st_mtime_ns, found.st_ino)
            if stamp == self._config_seen:
                return
            config = wire.PulseConfig.from_json(Path(wire.CONFIG_FILE).read_bytes())
        except FileNotFoundError:
            return
        except (OSError, wire.BadMessage) as error:
            # The file is looked at again even if it stays: what was wrong may not be in it.
            self._complain("configuration", f"the configuration is not taken over: {error}")
            return
        self._config_seen = stamp
        self._complain("configuration", "")
        if len(config.disks) == 2:
            self._voice.say("the pool has two heartbeat disks: both are needed; a third would let any one of them fail")
        self._take_over(config)

    def _forgets_licence(self) -> bool:
        """Whether no licence runs, so that it does not matter that what one belonged to cannot be read."""
        keeper = self._heart.keeper
        if keeper is None:
            return False
        if keeper.mode in (Mode.LICENSED, Mode.EXPIRED):
            self._complain("licence", f"{self._unreadable}; nobody can go on under the licence that runs, so this host will be reset")
            return False
        self._complain("licence", "")
        self._unreadable = ""
        return True

    def _take_over(self, config: wire.PulseConfig) -> None:
        wanted, before = config.core(), self._config
        self._config, self._refused = config, None
        self._step(hearts.Configured(clock.now(), wanted))
        core = self._heart.config
        if core is None or (core.pool_id, core.members) != (wanted.pool_id, wanted.members):
            # Under a licence it goes on as a member of the pool that the others know: also by its packets and their key.
            self._config, self._refused = before, config
            return
        self._network.bind(config, self._heart.host, clock.now())
        self._bind()

    def _bind(self) -> None:
        """Note what a licence belongs to: disks and timing are the core's, which keeps them under a licence and changes them after it."""
        config, core = self._config, self._heart.config
        if config is None or core is None or (core.pool_id, core.members) != (config.core().pool_id, config.core().members):
            return  # what the core has taken over by itself is taken over here when the configuration is looked for
        licence, watchdog = core.timing.licence_seconds, core.timing.watchdog_seconds
        on_its_disks = replace(config, disks=core.disks, disks_generation=core.disks_generation)
        self._bound = replace(on_its_disks, licence_seconds=licence, watchdog_seconds=watchdog)

    def _describe(self) -> None:
        now = clock.now()
        for issued in self._heart.issued:
            self._issued_at.setdefault((issued.slot, issued.incarnation), datetime.now(UTC).isoformat())
        if now < self._next_state_at:
            return
        self._next_state_at = now + _STATE_EVERY_SECONDS
        said = describe.state(self._heart, now, self._troubles(now), self._issued_at, self._boot_id)
        lost = {"pulse": self._voice.dropped, "keeper": self._keeper.lines_lost}
        counted = describe.metrics(self._heart, now, self._cycles, self._failed_cycles, self._alarms.counts, self._keeper.lateness, lost)
        self._audience.tell(wire.message("state", agent=said, drops=dict(self._dropped.counts), metrics=counted))
        self._log(said, now)

    def _log(self, said: dict[str, Any], now: float) -> None:
        """Say what the HAHost says too: why this host is not armed, and whose packets are dropped."""
        for sentence in self._dropped.news(*self._senders(now)):
            self._voice.say(sentence, loud=True)
        if self._reasons.new("" if said["armed"] else said["message"], now):
            self._voice.say(f"{self._heart.host}: not armed: {said['message']}", loud=self._heart.phase is Phase.REFUSED)

    def _troubles(self, now: float) -> describe.Troubles:
        config, core, complaints = self._config, self._heart.config, tuple(filter(None, self._complaints.values()))
        if config is None or core is None:
            return describe.Troubles(("no address yet",), complaints=complaints)
        paths = self._network.problems(config.members, self._heart.host, now, core.timing.network_timeout_seconds)
        dropped = self._dropped.causes(*self._senders(now))
        return describe.Troubles(tuple(paths) or ("no address yet",), tuple(dropped), self._storage.problem, complaints)

    def _senders(self, now: float) -> tuple[dict[str, str], float, float]:
        """The hosts of known addresses, and how long ago a packet may have come to be of late."""
        config, core = self._config, self._heart.config
        names = {address: m.host for m in config.members for address in m.addresses if address} if config is not None else {}
        return names, now, 2 * core.timing.network_timeout_seconds if core is not None else 0.0


def _heartbeats(config: wire.PulseConfig) -> tuple[int, tuple[str, ...]]:
    """Which disks, and which time that they are the pool's."""
    return config.disks_generation, config.disks


def _who_stops(option: str) -> stopper.Stopper | None:
    """The stopper of that name. Raises ValueError."""
    if option == "none":
        return None
    if option.startswith(stopper.DEVELOPMENT_PREFIX):
        return stopper.DevelopmentStopper(option.removeprefix(stopper.DEVELOPMENT_PREFIX))
    name, _, cgroups = option.partition(":")
    if name == "kubevirt":
        return kubevirt.KubeVirtStopper(Path("/proc"), Path(cgroups or "/sys/fs/cgroup"))
    raise ValueError(f"--stopper {option}: it is not one of none, kubevirt, kubevirt:/path/of/the/host's/cgroups, development:/path")


def main() -> int:
    """The process `quorate-pulse`."""
    parser = process.arguments("quorate-pulse", "Beat on the heartbeat disk and the network; produce the deadline.")
    parser.add_argument("--node", required=True, help="name of this host (its Node and HAHost)")
    parser.add_argument("--stopper", default="none", help="who stops the VMs of this host when it is fenced: none, kubevirt[:/cgroups]")
    options, voice = parser.parse_args(), Voice("quorate-pulse")

    def make(_: Path, boot_id: str) -> Pulse:
        return Pulse(options.node, str(uuid.UUID(boot_id)), voice, _who_stops(options.stopper))

    return process.live(options, voice, _PRIORITY, make)


if __name__ == "__main__":
    sys.exit(main())
