"""The keeper's rule: no pet after the deadline, whatever order things come in."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate_core import keeping
from quorate_core.keeping import (
    CloseIfPossible,
    DeadlineGiven,
    Event,
    Keeping,
    LetGo,
    Marker,
    Mode,
    Opened,
    Pet,
    PetAnswered,
    Released,
    SaveMarker,
    Tick,
)

OPEN = keeping.step(Keeping("boot"), Opened(0, "dog", 8, 8))[0]
LICENSED = keeping.step(OPEN, DeadlineGiven(0, "a", 20))[0]


def test_without_a_licence_it_pets_and_under_one_only_until_the_deadline() -> None:
    assert Pet() in keeping.step(OPEN, Tick(1000))[1]
    assert Pet() in keeping.step(LICENSED, Tick(20))[1]
    assert Pet() not in keeping.step(LICENSED, Tick(20.001))[1]


def test_a_licence_that_has_ended_is_never_renewed() -> None:
    """Row 8."""
    for first in (Tick(21), DeadlineGiven(21, "a", 40)):
        state, actions = keeping.step(LICENSED, first)
        assert state.mode is Mode.EXPIRED
        assert Pet() not in actions
        for event in (DeadlineGiven(22, "a", 41), Released(22, "a"), Opened(22, "dog", 8, 8), Tick(30)):
            after, actions = keeping.step(state, event)
            assert after.mode is Mode.EXPIRED
            assert Pet() not in actions


def test_a_deadline_is_saved_before_it_is_adopted() -> None:
    state, actions = keeping.step(LICENSED, DeadlineGiven(5, "a", 25))
    assert state.deadline == 25
    assert actions[0] == SaveMarker(keeping.marker_of(state))


def test_a_watchdog_that_takes_no_pets_has_failed_once_it_should_have_bitten_and_no_sooner() -> None:
    """W + g: one that runs has reset the host by then."""
    for at, failed in ((8.9, False), (9.0, False), (9.1, True)):
        state, _ = keeping.step(LICENSED, PetAnswered(at, "EIO"))
        assert (state.mode, bool(state.problem)) == (Mode.LICENSED, failed)
    taken, _ = keeping.step(state, PetAnswered(9.2, ""))
    assert (taken.problem, taken.petted_at) == ("", 9.2)


def test_a_failed_watchdog_without_a_licence_is_let_go_and_can_be_opened_anew() -> None:
    state, actions = keeping.step(OPEN, PetAnswered(9.1, "EIO"))
    assert state.mode is Mode.CLOSED
    assert actions[:2] == (SaveMarker(keeping.marker_of(state)), LetGo())
    assert keeping.step(state, Opened(20, "dog", 8, 8))[0].problem == ""


@pytest.mark.parametrize(
    "event", [DeadlineGiven(5, "b", 25), DeadlineGiven(5, "a", 19), DeadlineGiven(5, "a", 4)], ids=["other life", "shorter", "past"]
)
def test_a_deadline_of_another_life_or_no_later_one_changes_nothing(event: DeadlineGiven) -> None:
    assert keeping.step(LICENSED, event) == (LICENSED, ())


def test_only_the_life_that_was_licensed_is_released_and_only_in_time() -> None:
    assert keeping.step(LICENSED, Released(5, "b")) == (LICENSED, ())
    state, actions = keeping.step(LICENSED, Released(5, "a"))
    assert state.mode is Mode.OPEN
    assert CloseIfPossible() in actions
    assert Pet() in keeping.step(state, Tick(1000))[1], "a watchdog that cannot be stopped is petted on"


@pytest.mark.parametrize(
    ("marker", "now", "mode", "opens"),
    [
        (None, 0, Mode.CLOSED, False),
        (Marker("other boot", "dog", Mode.LICENSED, "a", 20, 8), 10, Mode.CLOSED, False),
        (Marker("boot", "dog", Mode.LICENSED, "a", 20, 8), 10, Mode.LICENSED, True),
        (Marker("boot", "dog", Mode.LICENSED, "a", 20, 8), 20.1, Mode.EXPIRED, False),
        (Marker("boot", "dog", Mode.EXPIRED, "a", 20, 8), 10, Mode.EXPIRED, False),
        (Marker("boot", "dog", Mode.OPEN, "", 0, 8), 500, Mode.OPEN, True),
        (Marker("boot", "", Mode.CLOSED, "", 0, 0), 10, Mode.CLOSED, False),
    ],
    ids=["first start", "after a boot", "6 within its budget", "8 after the deadline", "expired", "not armed", "disarmed"],
)
def test_a_restarted_keeper_opens_the_watchdog_only_while_it_may_pet(marker: Marker | None, now: float, mode: Mode, opens: bool) -> None:
    state, device = keeping.restore(marker, "boot", now)
    assert state.mode is mode
    assert (device is not None) is opens


EVENTS = st.one_of(
    st.builds(Tick, st.floats(0, 5)),
    st.builds(DeadlineGiven, st.floats(0, 5), st.sampled_from("ab"), st.floats(0, 30)),
    st.builds(Released, st.floats(0, 5), st.sampled_from("ab")),
)


@given(st.lists(EVENTS, max_size=40))
def test_under_licence_no_pet_follows_the_latest_deadline_given(events: list[Event]) -> None:
    """Property: after the first deadline and without a release, every pet comes no later than a deadline of the licensed life."""
    state, now, latest = OPEN, 0.0, None
    for event in events:
        now += event.now  # the drawn number is a step in time
        if isinstance(event, DeadlineGiven | Released):
            event = replace(event, now=now)
        else:
            event = Tick(now)
        was = state
        state, actions = keeping.step(state, event)
        if state.mode is Mode.LICENSED:
            latest = state.deadline
        if Pet() in actions and was.mode is Mode.LICENSED:
            assert latest is not None
            assert now <= latest
