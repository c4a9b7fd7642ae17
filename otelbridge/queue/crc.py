"""CRC-32 of two pieces end to end, from the checksum of each: the bytes themselves are not needed again.

A CRC is the remainder of a division of polynomials over GF(2). Appending n bytes multiplies what came before by x to
the power 8n, so the checksum of the whole is `first * x**8n + second` (Mark Adler's crc32_combine in zlib, which
Python does not reach). zlib's CRC-32 has the coefficient of x**0 in its highest bit.
"""

from __future__ import annotations

from functools import lru_cache

POLYNOMIAL = 0xEDB88320  # of RFC 1952, section 8, without the x**32 that stands beyond the 32 bits
ONE = 1 << 31
BYTE = ONE >> 8  # x**8
MASK = 0xFFFFFFFF
LENGTH_BYTES = 4


def joined_crc(first: int, second: int, second_bytes: int) -> int:
    """The CRC-32 of two pieces joined.

    Args:
        first: `zlib.crc32` of the first piece.
        second: `zlib.crc32` of the second one.
        second_bytes: the length of the second one.
    """
    for place, digit in enumerate(second_bytes.to_bytes(LENGTH_BYTES, "little")):
        if digit:
            first = _multiplied(first, _power(digit << 8 * place))
    return first ^ second


@lru_cache(maxsize=256 * LENGTH_BYTES)  # all that are asked for
def _power(exponent: int) -> int:
    """The polynomial x to the power of eight times the exponent."""
    power, square = ONE, BYTE
    while exponent:
        if exponent & 1:
            power = _multiplied(power, square)
        square = _multiplied(square, square)
        exponent >>= 1
    return power


def _multiplied(left: int, right: int) -> int:
    """The product of two polynomials, modulo that of the CRC."""
    product = 0
    while left:
        if left & ONE:
            product ^= right
        left = left << 1 & MASK
        right = right >> 1 ^ POLYNOMIAL if right & 1 else right >> 1
    return product
