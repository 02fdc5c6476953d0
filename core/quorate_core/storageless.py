"""Life without storage: when no host of the pool has storage, the word of all the others takes its place as proof of life.

A packet's number is a challenge and its echo the answer. An answer counts if its sender says in the same packet that its storage does not
answer: then it cannot condemn anybody, and it will not before it has watched the disk again for a full R_s. So evidence is the moment when
the newest packet was sent that *everybody* whose word is required has answered so. One that has storage again, or is gone, ends it for all.

Nobody answers an incarnation that it has evicted. Whose word is required stands in the own slot (`publish.required`), and nobody else may
judge this host: a dead host that comes back reads there that it is not asked, and has to be let in before it judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from quorate_core.clique import members
from quorate_core.statement import ECHO_MASK, Phase, Statement


@dataclass(frozen=True, slots=True)
class Answer:
    """The newest packet of ours that an incarnation has answered while it had no storage: when it was sent, on our clock."""

    incarnation: int
    sent_at: float


@dataclass(frozen=True, slots=True)
class Questions:
    """Our packets of late, as (number, when sent), and who has answered which."""

    sent: tuple[tuple[int, float], ...] = ()
    answers: Mapping[int, Answer] = field(default_factory=dict)


def asked(questions: Questions, sequence: int, now: float, memory_seconds: float) -> Questions:
    """After a packet was sent. What is older than the memory renews nothing any more."""
    kept = tuple((number, at) for number, at in questions.sent if now - at <= memory_seconds)
    return replace(questions, sent=(*kept, (sequence, now)))


def answered(questions: Questions, said: Statement, my_slot: int, my_incarnation: int) -> Questions:
    """After a packet of the incarnation that its sender's slot shows. Without storage and under a licence of its own, it answers."""
    if not said.storageless or said.phase not in (Phase.ARMED, Phase.DISARMED):
        return questions
    echo = said.echo_of(my_slot, my_incarnation)
    sent_at = next((at for number, at in questions.sent if echo and number & ECHO_MASK == echo), None)
    before = questions.answers.get(said.slot)
    if sent_at is None or (before is not None and before.incarnation == said.incarnation and before.sent_at >= sent_at):
        return questions
    return replace(questions, answers={**questions.answers, said.slot: Answer(said.incarnation, sent_at)})


def evidence(questions: Questions, required: int, lives: Mapping[int, int | None]) -> float | None:
    """When this host was last proven to be in everybody's grace; None if somebody has not answered.

    `required` is the set of slots to be asked, this host's own left out; `lives` the incarnation that each of them shows on the disk.
    """
    oldest = questions.sent[-1][1] if questions.sent else None
    for index in members(required):
        answer = questions.answers.get(index)
        if answer is None or answer.incarnation != lives.get(index) or oldest is None:
            return None
        oldest = min(oldest, answer.sent_at)
    return oldest
