"""A table whose copies share what they have in common is a table: held against plain dicts."""

from random import Random

import pytest

from quorate_planner import overlay
from quorate_planner.overlay import Overlay


@pytest.mark.parametrize("most", [0, 3, 256])
def test_copies_that_share_their_entries_are_as_apart_as_dicts(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(overlay, "CHANGES_MOST", most)
    dice = Random(most)
    names = [f"vm-{i}" for i in range(12)]
    start = dict.fromkeys(names[:6], 0)
    pairs: list[tuple[Overlay[int], dict[str, int]]] = [(Overlay(dict(start)), dict(start))]
    for number in range(300):
        shared, plain = dice.choice(pairs)
        pairs.append((Overlay(shared), dict(plain)))
        for name in dice.sample(names, 3):
            shared, plain = dice.choice(pairs)
            if dice.random() < 0.4 and name in plain:
                del shared[name], plain[name]
            else:
                shared[name] = plain[name] = number
        pairs = pairs[-8:]
        for shared, plain in pairs:
            assert shared == plain
            assert len(shared) == len(plain)
            assert sorted(shared) == sorted(plain)
            assert sorted(shared.values()) == sorted(plain.values())
            assert {name: shared.get(name) for name in names} == {name: plain.get(name) for name in names}
            assert [name in shared for name in names] == [name in plain for name in names]


def test_what_is_gone_cannot_be_taken_again() -> None:
    table = Overlay({"a": 1})
    del table["a"]
    with pytest.raises(KeyError):
        table["a"]
    with pytest.raises(KeyError):
        del table["a"]
