"""From the options of what-if and check to the planner's changes. Parsing only; each error names its option."""

from collections.abc import Sequence

from quorate_controller.memory import quantity_bytes
from quorate_controller.observe import BadInput
from quorate_core.facts import Protection, Snapshot, Vm
from quorate_planner import AddVm, Change, GrowVm, MoveVm, RemoveVm, SetProtection, WithoutHost
from quorate_planner.problem import MEMORY_LIMIT_BYTES


def protections(values: Sequence[str]) -> list[Change]:
    """`namespace/vm=Protected[:priority]`."""
    found: list[Change] = []
    for value in values:
        key, wished = _pair("--set-protection", value, "namespace/vm=Protected[:priority]")
        word, _, priority = wished.partition(":")
        try:
            protection = Protection(word)
        except ValueError:
            raise BadInput("--set-protection", value, f"{word!r} is not one of {', '.join(Protection)}") from None
        if priority and not (priority.isascii() and priority.isdigit()):
            raise BadInput("--set-protection", value, f"the priority {priority!r} is not a whole number from 0 up")
        found.append(SetProtection(key, protection, int(priority) if priority else None))
    return found


def sizes(values: Sequence[str]) -> list[Change]:
    """`namespace/vm=SIZE`: what its launcher pod would request."""
    pairs = (_pair("--grow-vm", value, "namespace/vm=16Gi") for value in values)
    return [GrowVm(key, _size(size, "--grow-vm", key)) for key, size in pairs]


def moves(values: Sequence[str]) -> list[Change]:
    """`namespace/vm=HOST`."""
    return [MoveVm(*_pair("--move-vm", value, "namespace/vm=host")) for value in values]


def additions(values: Sequence[str]) -> list[Change]:
    """`SIZE`: one more protected VM of that size, which waits to be placed."""
    found: list[Change] = []
    for number, size in enumerate(values, start=1):
        size_bytes = _size(size, "--add-vm", size)
        found.append(AddVm(Vm(f"what-if/new-{number}", size_bytes, protection=Protection.PROTECTED)))
    return found


def removals(hosts: Sequence[str], vms: Sequence[str]) -> list[Change]:
    """Hosts that leave and VMs that are deleted."""
    return [*(WithoutHost(host) for host in hosts), *(RemoveVm(vm) for vm in vms)]


def waiting(snapshot: Snapshot) -> list[Vm]:
    """VMs without a guarantee that should run and have no host: they take memory wherever they start. Largest first."""
    vms = [vm for vm in snapshot.vms if vm.should_run and vm.host is None and vm.protection is not Protection.PROTECTED]
    return sorted(vms, key=lambda vm: (-vm.size_bytes, vm.key))


def _size(text: str, option: str, what: str) -> int:
    size_bytes = quantity_bytes(text, option, what)
    if not 0 < size_bytes < MEMORY_LIMIT_BYTES:
        raise BadInput(option, what, f"{text} is not the memory of a VM: more than nothing and less than 4 EiB is")
    return size_bytes


def _pair(option: str, value: str, form: str) -> tuple[str, str]:
    key, separator, right = value.partition("=")
    if not separator or not key or not right:
        raise BadInput(option, value, f"expected {form}")
    return key, right
