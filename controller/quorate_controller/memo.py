"""What was worked out from the very same objects before: for readers whose objects stay the same while they do not change.

Keyed by identity. Every entry holds the objects that it is about, so an identity cannot be that of another object, and they must not be
changed in place. What two turns have not asked for is forgotten.
"""

from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Used by one thread at a time."""

    def __init__(self) -> None:
        self._now: dict[tuple[Any, ...], tuple[tuple[object, ...], Any]] = {}
        self._before: dict[tuple[Any, ...], tuple[tuple[object, ...], Any]] = {}
        self._same: dict[str, Any] = {}

    def turn(self) -> None:
        """A new turn begins."""
        self._before, self._now = self._now, {}

    def of(self, what: str, objects: tuple[object, ...], make: Callable[[], T]) -> T:
        """The value for these objects; made now if it is not known. What `make` raises is not remembered."""
        key = (what, *map(id, objects))
        known = self._now.get(key) or self._before.get(key)
        if known is None:
            known = (objects, make())
        self._now[key] = known
        value: T = known[1]
        return value

    def same(self, what: str, value: T) -> T:
        """The value that was given before under that name if it is equal, else this one: an identity for what is equal."""
        known: T | None = self._same.get(what)
        if known is None or known != value:
            known = self._same[what] = value
        return known
