"""The keeper's rule: pet the watchdog only while now <= deadline. Silence is how a host dies, so silence is always safe.

Before the host is armed, and after it was deliberately released, the keeper pets without a licence: nobody relies on its death then.
From the first deadline on it pets under licence only, and a licence that has once ended is never renewed. The marker is saved before
a deadline is adopted, so that a keeper started anew knows what the one before it was bound to.

A watchdog that takes no pet and does not reset the host either has failed. Nobody may rely on it any more: the keeper says so, and without
a licence it lets go of the device, so that it can be opened anew.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from quorate_core.timing import WATCHDOG_GRANULARITY_SECONDS


class Mode(StrEnum):
    """What the keeper does with the watchdog."""

    CLOSED = "closed"
    OPEN = "open"
    LICENSED = "licensed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Marker:
    """What a keeper leaves on the host's tmpfs. Times are seconds since that boot."""

    boot_id: str
    device: str
    mode: Mode
    incarnation: str
    deadline: float
    asked_timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Keeping:
    """The keeper's state. `timeout_seconds` is what the device really set, `petted_at` when it last took a pet. `problem`: why nobody may
    rely on it any more."""

    boot_id: str
    mode: Mode = Mode.CLOSED
    device: str = ""
    asked_timeout_seconds: float = 0.0
    timeout_seconds: float = 0.0
    incarnation: str = ""
    deadline: float = 0.0
    next_pet_at: float = 0.0
    petted_at: float = 0.0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passes."""

    now: float


@dataclass(frozen=True, slots=True)
class Opened:
    """The shell has opened the device, which thereby runs with that timeout."""

    now: float
    device: str
    asked_timeout_seconds: float
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class DeadlineGiven:
    """Pulse has proven life: this incarnation may run until the deadline."""

    now: float
    incarnation: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Released:
    """Pulse has published that this incarnation is disarmed: its licence is needed no more."""

    now: float
    incarnation: str


@dataclass(frozen=True, slots=True)
class PetAnswered:
    """The device has answered to a pet; `error` is "" if it took it."""

    now: float
    error: str


Event = Tick | Opened | DeadlineGiven | Released | PetAnswered


@dataclass(frozen=True, slots=True)
class Pet:
    """Pet the watchdog."""


@dataclass(frozen=True, slots=True)
class SaveMarker:
    """Save this before anything else; if it cannot be saved, the step must not happen."""

    marker: Marker


@dataclass(frozen=True, slots=True)
class CloseIfPossible:
    """Disarm the device if it can be disarmed; else go on petting it without a licence."""


@dataclass(frozen=True, slots=True)
class LetGo:
    """Close the failed device, stopped or not."""


@dataclass(frozen=True, slots=True)
class Say:
    """One sentence for the log."""

    sentence: str


Action = Pet | SaveMarker | CloseIfPossible | LetGo | Say


def step(state: Keeping, event: Event) -> tuple[Keeping, tuple[Action, ...]]:
    """What the keeper does about an event."""
    match event:
        case Tick(now):
            return _tick(state, now)
        case Opened(now, device, asked, timeout):
            if state.mode is not Mode.CLOSED:
                return state, ()
            opened = Keeping(state.boot_id, Mode.OPEN, device, asked, timeout, next_pet_at=now, petted_at=now)
            return opened, (SaveMarker(marker_of(opened)), Say(f"watchdog {device} runs with {timeout:g} s; not armed yet"))
        case DeadlineGiven(now, incarnation, deadline):
            return _licence(state, now, incarnation, deadline)
        case PetAnswered(now, error):
            return _after_pet(state, now, error)
        case Released(now, incarnation):
            if state.mode is Mode.OPEN:
                return state, (CloseIfPossible(),)
            if state.mode is not Mode.LICENSED or incarnation != state.incarnation or now > state.deadline:
                return state, ()
            freed = replace(state, mode=Mode.OPEN)
            return freed, (SaveMarker(marker_of(freed)), CloseIfPossible(), Say(f"incarnation {incarnation} is released from its licence"))


def _after_pet(state: Keeping, now: float, error: str) -> tuple[Keeping, tuple[Action, ...]]:
    if not error:
        return replace(state, petted_at=now, problem=""), ()
    unpetted = now - state.petted_at
    if unpetted <= state.timeout_seconds + WATCHDOG_GRANULARITY_SECONDS:
        return state, (Say(f"watchdog {state.device} could not be petted: {error}; if it runs, it resets this host soon"),)
    # It still runs, so the host still runs: nothing would reset it.
    problem = state.problem or f"{state.device} has taken no pet for {unpetted:.0f} s ({error}) and has not reset this host"
    told = () if state.problem else (Say(f"the watchdog has failed: {problem}"),)
    if state.mode is not Mode.OPEN:
        return replace(state, problem=problem), told
    closed = Keeping(state.boot_id, problem=problem)
    return closed, (SaveMarker(marker_of(closed)), LetGo(), *told)


def restore(marker: Marker | None, boot_id: str, now: float) -> tuple[Keeping, str | None]:
    """The state a new keeper begins with, and the device to open at once (None: none).

    A licence that has ended while no keeper ran stays ended: opening the device now would ping a dog that is about to bite.
    """
    fresh = Keeping(boot_id)
    if marker is None or marker.boot_id != boot_id or marker.mode is Mode.CLOSED:
        return fresh, None
    bound = replace(
        fresh,
        device=marker.device,
        asked_timeout_seconds=marker.asked_timeout_seconds,
        incarnation=marker.incarnation,
        deadline=marker.deadline,
    )
    if marker.mode is Mode.EXPIRED or (marker.mode is Mode.LICENSED and now > marker.deadline):
        return replace(bound, mode=Mode.EXPIRED), None
    return replace(bound, mode=marker.mode), marker.device


def marker_of(state: Keeping) -> Marker:
    """What to leave behind."""
    return Marker(state.boot_id, state.device, state.mode, state.incarnation, state.deadline, state.asked_timeout_seconds)


def _tick(state: Keeping, now: float) -> tuple[Keeping, tuple[Action, ...]]:
    if state.mode is Mode.LICENSED and now > state.deadline:
        late = now - state.deadline
        expired = replace(state, mode=Mode.EXPIRED)
        # No marker is needed for this: the one on disk already carries the deadline that has passed.
        return expired, (Say(f"licence of incarnation {state.incarnation} ended {late:.1f} s ago; not petting, the watchdog will reset"),)
    if state.mode in (Mode.OPEN, Mode.LICENSED) and now >= state.next_pet_at:
        return replace(state, next_pet_at=now + state.timeout_seconds / 4), (Pet(),)
    return state, ()


def _licence(state: Keeping, now: float, incarnation: str, deadline: float) -> tuple[Keeping, tuple[Action, ...]]:
    if state.mode is Mode.LICENSED and now > state.deadline:
        return _tick(state, now)
    if state.mode not in (Mode.OPEN, Mode.LICENSED) or now > deadline:
        return state, ()
    if state.mode is Mode.LICENSED and (incarnation != state.incarnation or deadline <= state.deadline):
        return state, ()
    licensed = replace(state, mode=Mode.LICENSED, incarnation=incarnation, deadline=deadline)
    save = SaveMarker(marker_of(licensed))
    if state.mode is Mode.OPEN:
        return licensed, (
            save,
            Say(f"armed: incarnation {incarnation} is petted under licence, now until {deadline - now:.1f} s from here"),
        )
    return licensed, (save,)
