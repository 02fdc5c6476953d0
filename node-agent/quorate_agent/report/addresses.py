"""This host's own addresses on the heartbeat interfaces of its pool, asked of the kernel (rtnetlink). Reads only.

Of each interface one address counts, so that the addresses of all hosts line up into paths: the first permanent one of the wanted family,
else the first of the other. Link-local addresses mean something else on every link and are left out.
"""

import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

_RTM_GETADDR, _NLM_F_REQUEST_DUMP = 22, 0x301
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_SECONDARY_OR_UNSURE = 0x01 | 0x08 | 0x20 | 0x40
"""Secondary (of IPv6: temporary), duplicate, deprecated, tentative."""
_SCOPE_LINK = 253
_HEADER, _ADDRESS, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBi"), struct.Struct("=HH")


@dataclass(frozen=True, slots=True)
class Found:
    """An address as the kernel lists it. `sound`: permanent and usable."""

    interface: int
    address: str
    sound: bool


def own(interfaces: Sequence[str], like: str) -> tuple[str, ...]:
    """One address for each of these interfaces, of the family of `like` where there is one; "" for an interface without. Raises OSError."""
    numbers = {name: index for index, name in socket.if_nameindex()}
    return choose(tuple(numbers.get(name, 0) for name in interfaces), _listed(), like)


def choose(interfaces: Sequence[int], found: Sequence[Found], like: str) -> tuple[str, ...]:
    """The address of each interface, by number."""
    family = ipaddress.ip_address(like).version

    def pick(interface: int) -> str:
        here = [one.address for one in found if one.interface == interface and one.sound]
        alike = [address for address in here if ipaddress.ip_address(address).version == family]
        return next(iter(alike + here), "")

    return tuple(pick(interface) for interface in interfaces)


def _listed() -> list[Found]:
    found: list[Found] = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as link:
        link.settimeout(2.0)
        request = _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
        link.sendto(_HEADER.pack(_HEADER.size + len(request), _RTM_GETADDR, _NLM_F_REQUEST_DUMP, 1, 0) + request, (0, 0))
        while True:
            data, offset = link.recv(1 << 16), 0
            while offset < len(data):
                length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
                if kind == _NLMSG_DONE:
                    return found
                if kind == _NLMSG_ERROR or length < _HEADER.size:
                    raise OSError(errno.EIO, f"the kernel does not list addresses: {os.strerror(errno.EIO)}")
                found += _parsed(data[offset + _HEADER.size : offset + length])
                offset += (length + 3) & ~3


def _parsed(body: bytes) -> list[Found]:
    family, _, flags, scope, interface = _ADDRESS.unpack_from(body)
    attributes, offset = {}, _ADDRESS.size
    while offset + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, offset)
        if length < _ATTRIBUTE.size:
            break
        attributes[kind] = body[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
    flags = int.from_bytes(attributes[_IFA_FLAGS], "little") if _IFA_FLAGS in attributes else flags
    raw = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
    if raw is None or family not in (socket.AF_INET, socket.AF_INET6):
        return []
    sound = not flags & _SECONDARY_OR_UNSURE and scope != _SCOPE_LINK
    return [Found(interface, socket.inet_ntop(family, raw), sound)]
