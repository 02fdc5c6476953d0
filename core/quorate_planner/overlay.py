"""A table of many entries of which each copy changes a few: copies share what they have in common."""

from collections.abc import ItemsView, Iterator, Mapping, MutableMapping, ValuesView
from typing import TypeVar

Value = TypeVar("Value")

CHANGES_MOST = 256
"""With more changes than this a copy makes a table of its own."""


class Overlay(MutableMapping[str, Value]):
    """Names and values, none of them None. A copy costs as much as what was changed since the last whole table."""

    __slots__ = ("_base", "_changes")

    def __init__(self, entries: Mapping[str, Value]) -> None:
        """`entries`, if it is a dict, must not be changed by anybody from now on."""
        self._base: dict[str, Value]
        self._changes: dict[str, Value | None] = {}
        if not isinstance(entries, Overlay):
            self._base = entries if isinstance(entries, dict) else dict(entries)
        elif len(entries._changes) > CHANGES_MOST:
            self._base = entries.whole()
        else:
            self._base, self._changes = entries._base, dict(entries._changes)

    def whole(self) -> dict[str, Value]:
        """All of it, as a table of its own."""
        entries = dict(self._base)
        for name, value in self._changes.items():
            if value is None:
                entries.pop(name, None)
            else:
                entries[name] = value
        return entries

    def __getitem__(self, name: str) -> Value:
        value = self._changes[name] if name in self._changes else self._base[name]
        if value is None:
            raise KeyError(name)
        return value

    def __contains__(self, name: object) -> bool:
        return self._changes[name] is not None if name in self._changes else name in self._base

    def __setitem__(self, name: str, value: Value) -> None:
        self._changes[name] = value

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self._changes[name] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.whole())

    def __len__(self) -> int:
        return len(self.whole())

    def items(self) -> ItemsView[str, Value]:
        return self.whole().items()

    def values(self) -> ValuesView[Value]:
        return self.whole().values()
