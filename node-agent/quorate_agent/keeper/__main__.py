"""The keeper: owns the watchdog, and pets it only while the deadline that pulse gave has not passed.

It does no disk I/O (its marker is on tmpfs), never waits for a log, and does not stop on SIGTERM while its watchdog runs and cannot be
stopped safely: a keeper that goes is a host that is reset.
"""

import select
import socket
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from quorate_agent import clock, messages, process
from quorate_agent.alone import stay_alone
from quorate_agent.histogram import LATENESS_BOUNDS_SECONDS, Histogram
from quorate_agent.keeper import marker as markers
from quorate_agent.keeper.watchdog import NoWatchdog, Watchdog, open_watchdog
from quorate_agent.voice import Voice
from quorate_core import keeping
from quorate_core.keeping import Keeping, Mode

_PRIORITY = 2
_LONGEST_SLEEP_SECONDS = 0.5
_TELL_EVERY_SECONDS = 5.0


class Keeper:
    """The shell around `keeping.step`: a socket, a device, a marker."""

    def __init__(self, folder: Path, boot_id: str, voice: Voice) -> None:
        self._folder, self._voice = folder, voice
        self._dog: Watchdog | None = None
        self._problem = ""
        self._client: socket.socket | None = None
        self._lateness = Histogram(LATENESS_BOUNDS_SECONDS)
        self._next_tell_at = 0.0
        self.stop_asked = False
        # Before the deadline is compared with the clock: the keeper before this one has ended, and its last ping is behind us.
        self._lock = stay_alone(messages.KEEPER_LOCK)
        left = markers.load(folder)
        self._state, device = keeping.restore(left, boot_id, clock.now())
        if self._state.mode is Mode.EXPIRED:
            self._voice.say("the licence ended while no keeper ran; the watchdog is not opened again and will reset this host", loud=True)
        if device is not None:
            self._reopen(device)
        self._listener = listen(messages.KEEPER_SOCKET)

    def run(self) -> None:
        """Serve until stopped (which only works while no watchdog runs that must not be stopped)."""
        while not (self.stop_asked and self._may_stop()):
            self._step(keeping.Tick(clock.now()))
            if clock.now() >= self._next_tell_at:
                self._tell()
            sources = [self._listener, *([self._client] if self._client else [])]
            ready = select.select(sources, [], [], self._sleep())[0]
            if self._listener in ready:
                self._accept()
            elif self._client in ready:
                self._read()

    def _sleep(self) -> float:
        if self._state.mode not in (Mode.OPEN, Mode.LICENSED):
            return _LONGEST_SLEEP_SECONDS  # nothing is petted any more
        return min(_LONGEST_SLEEP_SECONDS, max(0.0, self._state.next_pet_at - clock.now()))

    def _reopen(self, device: str) -> None:
        wanted = self._state
        try:
            self._dog = open_watchdog(device, wanted.asked_timeout_seconds, True)
            self._state = replace(wanted, timeout_seconds=self._dog.timeout_seconds, petted_at=clock.now())
            self._voice.say(f"watchdog {device} is open again after a restart, {wanted.mode}")
        except NoWatchdog as error:
            self._problem = str(error)
            self._state = replace(wanted, mode=Mode.EXPIRED if wanted.mode is Mode.LICENSED else Mode.CLOSED)
            self._voice.say(f"{error}; it cannot be petted any more", loud=True)

    def _step(self, event: keeping.Event) -> None:
        after, actions = keeping.step(self._state, event)
        petted: str | None = None
        for action in actions:
            match action:
                case keeping.SaveMarker(marker):
                    try:
                        markers.save(self._folder, marker)
                    except OSError as error:
                        # A deadline that the next keeper would not know of is not adopted.
                        self._voice.say(f"the marker cannot be saved ({error.strerror}); the deadline stays as it was", loud=True)
                        return
                case keeping.Pet():
                    petted = self._pet()
                case keeping.CloseIfPossible():
                    after = self._close(after)
                case keeping.LetGo():
                    if self._dog is not None:
                        self._dog.let_go()
                    self._dog = None
                case keeping.Say(sentence):
                    self._voice.say(sentence)
        changed = (after.mode, after.problem) != (self._state.mode, self._state.problem)
        self._state = after
        if changed:
            self._tell()
        if petted is not None:
            self._step(keeping.PetAnswered(clock.now(), petted))

    def _pet(self) -> str:
        """Pet the watchdog; why it did not take it, or ""."""
        if self._dog is None:
            return "it is not open"
        try:
            self._dog.pet()
        except OSError as error:
            return error.strerror or str(error)
        self._lateness.observe(clock.now() - self._state.next_pet_at)
        return ""

    def _close(self, state: Keeping) -> Keeping:
        if self._dog is None or not self._disarmed():
            return state
        self._dog = None
        closed = Keeping(state.boot_id)
        try:
            markers.save(self._folder, keeping.marker_of(closed))
        except OSError as error:
            # The next keeper would open the watchdog and pet it without a licence: no harm, but somebody should know.
            self._voice.say(f"the marker cannot be saved ({error.strerror})", loud=True)
        self._voice.say(f"watchdog {state.device} is stopped: the host is disarmed")
        return closed

    def _disarmed(self) -> bool:
        """Whether the watchdog could be stopped. One that fails is left as it is."""
        try:
            return self._dog is not None and self._dog.disarm()
        except OSError as error:
            self._voice.say(f"the watchdog cannot be stopped: {error.strerror}", loud=True)
            return False

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._client is not None:
            self._client.close()  # a new pulse takes the place of the one before it
        client.setblocking(False)
        self._client = client
        self._tell()

    def _read(self) -> None:
        assert self._client is not None
        try:
            data = self._client.recv(messages.MAX_MESSAGE_BYTES)
            if not data:
                raise ConnectionResetError
            fields = messages.parse(data, "message from pulse")
            self._obey(fields)
        except BlockingIOError:
            return
        except OSError:
            self._client.close()
            self._client = None
        except (messages.BadMessage, KeyError, TypeError, ValueError) as error:
            self._voice.say(f"a message from pulse is not understood: {error}", loud=True)

    def _obey(self, fields: dict[str, object]) -> None:
        now = clock.now()
        match fields["kind"]:
            case "open":
                self._open(str(fields["device"]), float(str(fields["timeoutSeconds"])))
            case "deadline":
                self._step(keeping.DeadlineGiven(now, str(fields["incarnation"]), float(str(fields["deadline"]))))
            case "release":
                self._step(keeping.Released(now, str(fields["incarnation"])))
            case other:
                raise messages.BadMessage(f"kind {other!r}")
        if fields["kind"] != "deadline":
            self._tell()

    def _open(self, device: str, timeout_seconds: float) -> None:
        if self._state.mode is not Mode.CLOSED:
            return
        try:
            self._dog = open_watchdog(device, timeout_seconds, False)
        except NoWatchdog as error:
            if self._problem != str(error):
                self._voice.say(str(error), loud=True)
            self._problem = str(error)
            return
        self._problem = ""
        opened = keeping.Opened(clock.now(), device, timeout_seconds, self._dog.timeout_seconds)
        self._step(opened)
        if self._state.mode is Mode.CLOSED:
            self._without_marker(opened)

    def _without_marker(self, opened: keeping.Opened) -> None:
        """The watchdog runs, nobody relies on it, and its marker cannot be saved: it must not reset this host for that."""
        if self._disarmed():
            self._dog = None
            self._problem = f"{opened.device}: {messages.MARKER_FILE} cannot be saved, so the watchdog was stopped again"
            return
        # It cannot be stopped: then it is petted. No licence is taken while the marker cannot be saved.
        self._state, _ = keeping.step(self._state, opened)

    def _tell(self) -> None:
        self._next_tell_at = clock.now() + _TELL_EVERY_SECONDS
        if self._client is None:
            return
        state = self._state
        described = messages.message(
            "keeper",
            mode=state.mode.value,
            incarnation=state.incarnation,
            deadline=state.deadline,
            device=state.device,
            identity=self._dog.identity if self._dog else "",
            timeoutSeconds=state.timeout_seconds,
            problem=self._problem or state.problem,
            petLateness=self._lateness.to_json(),
            logLinesLost=self._voice.dropped,
        )
        with suppress(OSError):  # a pulse that does not listen is told when it connects again
            self._client.send(described)

    def _may_stop(self) -> bool:
        self.stop_asked = False
        if self._dog is None:
            return True
        if self._state.mode is Mode.OPEN and self._disarmed():
            return True
        self._voice.say(f"SIGTERM ignored: the watchdog runs ({self._state.mode}) and is never disarmed by a signal", loud=True)
        return False


def listen(name: str) -> socket.socket:
    """A socket of that name in the working directory; a stale one is replaced."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    Path(name).unlink(missing_ok=True)
    listener.bind(name)
    Path(name).chmod(0o600)
    listener.listen(4)
    return listener


def main() -> int:
    """The process `quorate-keeper`."""
    options = process.arguments("quorate-keeper", "Pet this host's watchdog while its deadline has not passed.").parse_args()
    voice = Voice("quorate-keeper")
    return process.live(options, voice, _PRIORITY, lambda folder, boot_id: Keeper(folder, boot_id, voice))


if __name__ == "__main__":
    sys.exit(main())
