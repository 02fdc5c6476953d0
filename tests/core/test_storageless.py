"""Life on the word of the others: everybody's, given without storage, to the very packet that it answers."""

from dataclasses import replace

import pytest

from quorate_core import storageless
from quorate_core.statement import Known, Phase, Statement, Views
from quorate_core.storageless import Questions

ME = (0, 5)
LIVES: dict[int, int | None] = {1: 11, 2: 12}


def answer(index: int, echo: int, **changes: object) -> Statement:
    known = (Known(0, 5, echo), Known(index, 10 + index))
    said = Statement(f"h{index}", index, 10 + index, 1, bytes(32), Phase.ARMED, Views(0b111), known, storageless=True)
    return replace(said, **changes)  # type: ignore[arg-type]


def after(*said: Statement, sent: tuple[tuple[int, float], ...] = ((7, 100.0), (8, 101.0))) -> Questions:
    questions = Questions(sent)
    for one in said:
        questions = storageless.answered(questions, one, *ME)
    return questions


def test_evidence_is_when_the_newest_packet_was_sent_that_everybody_has_answered() -> None:
    assert storageless.evidence(after(answer(1, 8), answer(2, 7)), 0b110, LIVES) == 100.0
    assert storageless.evidence(after(answer(1, 8), answer(2, 8), answer(2, 7)), 0b110, LIVES) == 101.0, (
        "an older answer takes nothing back"
    )


def test_one_missing_answer_is_no_evidence() -> None:
    """Row 20."""
    assert storageless.evidence(after(answer(1, 8)), 0b110, LIVES) is None


def test_those_who_are_not_required_are_not_asked() -> None:
    """Row 21."""
    assert storageless.evidence(after(answer(1, 8)), 0b010, LIVES) == 101.0


def test_a_host_of_which_nobody_is_left_lives_on_its_own_word() -> None:
    assert storageless.evidence(Questions(((7, 100.0),)), 0, LIVES) == 100.0


@pytest.mark.parametrize(
    "said",
    [
        answer(1, 8, storageless=False),
        answer(1, 0),
        answer(1, 99),
        answer(1, 8, phase=Phase.JOINING),
        answer(1, 8, phase=Phase.FENCING),
        answer(1, 8, known=(Known(0, 6, 8),)),
    ],
    ids=["has storage", "gives no answer", "to no packet of late", "not under a licence", "fencing", "to another life"],
)
def test_an_answer_with_a_flaw_is_none(said: Statement) -> None:
    """Rows 22, 24 and 25."""
    assert storageless.evidence(after(said), 0b010, LIVES) is None


def test_an_answer_of_an_earlier_life_is_none() -> None:
    assert storageless.evidence(after(answer(1, 8)), 0b010, {1: 99}) is None
    assert storageless.evidence(after(answer(1, 8)), 0b010, {}) is None


def test_packets_older_than_the_licence_are_forgotten() -> None:
    questions = storageless.asked(Questions(((7, 100.0), (8, 101.0))), 9, 120.5, 20.0)
    assert questions.sent == ((8, 101.0), (9, 120.5))
