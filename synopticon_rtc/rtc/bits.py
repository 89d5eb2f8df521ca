"""Numbers in the bit strings of H.264."""

_LONGEST = 32
"""Bits of the longest Exp-Golomb code that there is, without its prefix."""


class Bits:
    """Reads a bit string from its beginning."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = len(data) * 8

    def read(self, count: int = 1) -> int:
        """Return an unsigned number of so many bits."""
        self._left -= count
        if self._left < 0:
            raise ValueError("a NAL unit is cut off")
        return self._value >> self._left & (1 << count) - 1

    def exp_golomb(self) -> int:
        """Return an unsigned number in Exp-Golomb code (ITU-T H.264 section 9.1)."""
        zeros = 0
        while not self.read():
            zeros += 1
            if zeros > _LONGEST:
                raise ValueError("a NAL unit holds a number that is too large")
        return (1 << zeros) - 1 + self.read(zeros)

    def signed(self) -> int:
        """Return a signed number in Exp-Golomb code (ITU-T H.264 section 9.1.1)."""
        code = self.exp_golomb()
        return (code + 1) // 2 if code & 1 else -(code // 2)
