"""Makes the core fast enough for many schedules without changing what it does.

The checksum of a block is taken by zlib instead of a loop in Python: another polynomial of the same length, so a torn or changed block is
found as before. A block that was decoded once is not decoded again. Copies of frozen dataclasses are made field by field without the
general machinery, and what follows from a frozen configuration is computed once; what a class checks on construction it still checks.
`tests/sim/test_simulator.py` compares runs with and without this.
"""

import dataclasses
import functools
import sys
import zlib
from collections.abc import Callable
from typing import Any

from quorate_core import heartbeat, slot
from quorate_core.pool import PoolConfig
from quorate_core.timing import Timing

_EMPTY = bytes(slot.BLOCK_BYTES)
_DECODE = slot.decode


def install() -> Callable[[], None]:
    """From now on, in this process; what is returned undoes it."""
    undone: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        undone.append((module, name, getattr(module, name)))
        setattr(module, name, value)

    put(slot, "crc32c", zlib.crc32)
    put(slot, "decode_header", functools.lru_cache(maxsize=64)(slot.decode_header))
    put(slot, "is_empty", _is_empty)
    for kind in (Timing, PoolConfig):
        for name, value in list(vars(kind).items()):
            if isinstance(value, property) and value.fget is not None:
                put(kind, name, property(_once(value.fget)))
    remembered = functools.lru_cache(maxsize=4096)(slot.decode)
    for module in _core():
        if getattr(module, "decode", None) is _DECODE:
            put(module, "decode", remembered)
        if getattr(module, "replace", None) is dataclasses.replace:
            put(module, "replace", _copy)

    def undo() -> None:
        for module, name, value in reversed(undone):
            setattr(module, name, value)

    return undo


def _core() -> list[Any]:
    assert heartbeat.step is not None, "imports the whole core"
    return [module for name, module in list(sys.modules.items()) if name.startswith("quorate_core.")]


def _once(get: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A property of something frozen, taken once for each object. Objects are kept, so that no other can get the same identity."""
    known: dict[int, tuple[Any, Any]] = {}

    def remembered(one: Any) -> Any:
        found = known.get(id(one))
        if found is None:
            if len(known) > 2000:
                known.clear()
            found = known[id(one)] = (one, get(one))
        return found[1]

    return remembered


def _is_empty(block: bytes) -> bool:
    return block == _EMPTY if len(block) == len(_EMPTY) else not any(block)


@functools.cache
def _copier(kind: type) -> tuple[Callable[[Any], Any], dict[str, Callable[[Any, Any], None]], bool]:
    """A function that copies all fields of that class, written for it; what sets each field; and whether the class checks itself."""
    names = [f.name for f in dataclasses.fields(kind)]
    setters = {name: kind.__dict__[name].__set__ for name in names}
    known = {"new": object.__new__, "kind": kind, **{f"set_{name}": setter for name, setter in setters.items()}}
    lines = [f" set_{name}(copy, one.{name})" for name in names]
    exec("\n".join(["def copied(one):", " copy = new(kind)", *lines, " return copy"]), known)
    return known["copied"], setters, hasattr(kind, "__post_init__")


def _copy(instance: Any, /, **changes: Any) -> Any:
    for name, value in changes.items():
        if getattr(instance, name) is not value:
            break
    else:
        return instance  # frozen, so the same will do
    copied, setters, checks = _copier(instance.__class__)
    copy = copied(instance)
    for name, value in changes.items():
        setters[name](copy, value)
    if checks:
        copy.__post_init__()
    return copy
