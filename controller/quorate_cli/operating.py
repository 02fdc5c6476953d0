"""maintenance, pause, protect, unprotect: the verbs that write. Each writes one small thing; admission decides whether it may."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from quorate_cli import render, source
from quorate_controller import kube
from quorate_controller.observe import BadInput
from quorate_core.facts import Protection

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def maintenance(where: source.Source, host: str, *, done: bool, lower_tolerance: bool) -> int:
    """Take a host out of the pool without a failure, or let it back in."""
    spec: kube.Json = {"maintenance": not done}
    if lower_tolerance:
        spec["maintenancePolicy"] = "LowerTolerance"
    _write(where, lambda api: api.merge(kube.HAHOSTS, host, {"spec": spec}))
    render.say(f"host {host}: maintenance {'ends' if done else 'begins'}; now {'uncordon' if done else 'drain'} it")
    return 0


def pause(where: source.Source, pool: str, duration: str) -> int:
    """Disarm a pool for a while; it arms again by itself."""
    until = datetime.now(UTC) + parse_duration(duration)
    patch = {"spec": {"pausedUntil": until.strftime("%Y-%m-%dT%H:%M:%SZ")}}
    _write(where, lambda api: api.merge(kube.HAPOOLS, pool, patch))
    render.say(f"pool {pool}: disarmed until {until:%Y-%m-%d %H:%M:%S} UTC; hosts are not fenced and VMs not restarted meanwhile")
    return 0


def protect(where: source.Source, vm: str, namespace: str, protection: Protection, priority: int) -> int:
    """Protect a VM, or change how."""
    namespace, name = _split(vm, namespace)
    body: kube.Json = {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"vmRef": {"name": name}, "protection": protection.value, "priority": priority},
    }
    if where.pool:
        body["spec"]["pool"] = where.pool
    _write(where, lambda api: api.apply(kube.PROTECTEDVMS, body, force=True))
    render.say(f"VM {namespace}/{name}: {protection.value}, priority {priority}")
    return 0


def unprotect(where: source.Source, vm: str, namespace: str) -> int:
    """Give up the protection of a VM."""
    namespace, name = _split(vm, namespace)
    _write(where, lambda api: _unprotect(api, namespace, name))
    render.say(f"VM {namespace}/{name}: unprotected")
    return 0


async def _unprotect(api: kube.Kube, namespace: str, name: str) -> None:
    label = {"metadata": {"labels": {"quorate.dev/protection": None, "quorate.dev/priority": None}}}
    await api.merge(kube.VMS, name, label, namespace)
    for pvm in await api.list(kube.PROTECTEDVMS, namespace=namespace):
        if pvm["spec"]["vmRef"]["name"] == name:
            await api.delete(kube.PROTECTEDVMS, pvm["metadata"]["name"], namespace, uid=pvm["metadata"]["uid"])


def parse_duration(text: str) -> timedelta:
    """`2h`, `90m`, `1h30m`, `45s`. Raises BadInput."""
    parts = re.findall(r"(\d+)([smhd])", text)
    if not parts or "".join(n + u for n, u in parts) != text:
        raise BadInput("--for", text, "is not a duration such as 2h, 90m or 1h30m")
    found = timedelta(**{_UNITS[unit]: sum(int(n) for n, u in parts if u == unit) for _, unit in parts})
    if not timedelta(0) < found <= timedelta(days=365):
        raise BadInput("--for", text, "must be longer than nothing and at most 365 days")
    return found


def _split(vm: str, namespace: str) -> tuple[str, str]:
    given, separator, name = vm.partition("/")
    return (given, name) if separator else (namespace, vm)


def _write(where: source.Source, write: Callable[[kube.Kube], Awaitable[object]]) -> None:
    async def work() -> None:
        api = await kube.Kube.connect(where.kubeconfig, where.context)
        try:
            await write(api)
        finally:
            await api.close()

    if where.files:
        raise BadInput("-f", str(where.files[0]), "this command changes a live cluster and reads no files")
    asyncio.run(work())
