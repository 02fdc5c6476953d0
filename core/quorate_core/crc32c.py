"""CRC-32C (Castagnoli), which the standard library lacks: detects torn and flipped blocks. Not a signature."""


def crc32c(data: bytes) -> int:
    """The checksum of data, as in iSCSI and ext4."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = tuple(_entry(value) for value in range(256))
