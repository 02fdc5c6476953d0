"""Memory in sentences for people. Numbers for programs stay in bytes."""

GIB = 1 << 30


def amount(size_bytes: int) -> str:
    """GiB with two decimals, or bytes where that would be nothing."""
    return f"{size_bytes / GIB:.2f} GiB" if size_bytes >= GIB // 10 else f"{size_bytes} bytes"


def both(one: int, other: int) -> tuple[str, str]:
    """Two amounts that are compared; in bytes where they differ too little to be told apart in GiB."""
    texts = amount(one), amount(other)
    return texts if one == other or texts[0] != texts[1] else (f"{one} bytes", f"{other} bytes")
