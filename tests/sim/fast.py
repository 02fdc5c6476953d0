"""Makes the core fast enough for many schedules without changing what it does.

The checksum of a block is taken by zlib instead of a loop in Python: another polynomial of the same length, so a torn or changed block is
found as before. A block that was decoded once is not decoded again. Frozen dataclasses are made and copied by functions written out for
their fields; for that their guard against changes is put aside (the plain core, which all other tests run, keeps it). What a class checks
on construction it still checks. What follows from a frozen configuration is computed once.
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

_DECODE = slot.decode
_ABSENT = object()


def install() -> Callable[[], None]:
    """From now on, in this process; what is returned undoes it."""
    undone: list[tuple[Any, str, Any]] = []

    def put(module: Any, name: str, value: Any) -> None:
        undone.append((module, name, vars(module).get(name, _ABSENT)))
        setattr(module, name, value)

    put(slot, "crc32c", zlib.crc32)
    if is_compiled():
        for name, module in list(sys.modules.items()):
            if name.startswith(f"{__package__}.") and getattr(module, "replace", None) is dataclasses.replace:
                put(module, "replace", _rebuilt)
        return _undo(undone)
    put(slot, "decode_header", functools.lru_cache(maxsize=64)(slot.decode_header))
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
    for kind in {one for module in _core() for one in vars(module).values() if isinstance(one, type) and _is_frozen(one)}:
        put(kind, "__init__", _maker(kind))
        put(kind, "__setattr__", object.__setattr__)
        put(kind, "__delattr__", object.__delattr__)
    return _undo(undone)


def is_compiled() -> bool:
    """Whether this process runs the core as `compiled` makes it, which needs nothing but the other checksum."""
    return not dataclasses.is_dataclass(Timing)


def _undo(undone: list[tuple[Any, str, Any]]) -> Callable[[], None]:
    def undo() -> None:
        for module, name, value in reversed(undone):
            if value is _ABSENT:
                delattr(module, name)
            else:
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


def _is_frozen(kind: type) -> bool:
    settings = vars(kind).get("__dataclass_params__")
    return settings is not None and settings.frozen and settings.init and "__slots__" in vars(kind)


@functools.cache
def _copier(kind: type, changed: tuple[str, ...]) -> Callable[..., Any]:
    """A function that copies an object of that class but for those fields, which it is given in that order; written out for it."""
    names = [f.name for f in dataclasses.fields(kind)]
    lines = [f" copy.{name} = {name if name in changed else f'one.{name}'}" for name in names]
    checks = [" copy.__post_init__()"] if hasattr(kind, "__post_init__") else []
    return _written(", ".join(("one", *changed)), [" copy = new(kind)", *lines, *checks, " return copy"], new=object.__new__, kind=kind)


def _maker(kind: type) -> Callable[..., None]:
    """The `__init__` of that class, written out for one whose fields may be set as those of any other object."""
    fields = dataclasses.fields(kind)
    known: dict[str, Any] = {}
    takes, lines = ["self"], []
    for f in fields:
        if f.default_factory is not dataclasses.MISSING:
            known[f"make_{f.name}"] = f.default_factory
            known["missing"] = dataclasses.MISSING
            takes.append(f"{f.name}=missing")
            lines.append(f" self.{f.name} = make_{f.name}() if {f.name} is missing else {f.name}")
            continue
        if f.default is not dataclasses.MISSING:
            known[f"default_{f.name}"] = f.default
        takes.append(f.name if f.default is dataclasses.MISSING else f"{f.name}=default_{f.name}")
        lines.append(f" self.{f.name} = {f.name}")
    lines += [" self.__post_init__()"] if hasattr(kind, "__post_init__") else []
    return _written(", ".join(takes), lines or [" pass"], **known)


def _written(takes: str, lines: list[str], **known: Any) -> Callable[..., Any]:
    exec("\n".join([f"def written({takes}):", *lines]), known)
    written: Callable[..., Any] = known["written"]
    return written


def _rebuilt(instance: Any, /, **changes: Any) -> Any:
    """`dataclasses.replace` for a class that is compiled and so is no dataclass any more."""
    if dataclasses.is_dataclass(instance):
        return dataclasses.replace(instance, **changes)  # type: ignore[type-var]
    kind: Any = instance.__class__
    return kind(*(changes.get(name, getattr(instance, name)) for name in kind.__match_args__))


def _copy(instance: Any, /, **changes: Any) -> Any:
    for name, value in changes.items():
        if getattr(instance, name) is not value:
            break
    else:
        return instance  # frozen, so the same will do
    return _copier(instance.__class__, tuple(changes))(instance, *changes.values())
