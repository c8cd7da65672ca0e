"""Changes of inputs as damage, other programs and malice make them."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence

WORDS = (
    *(b"nan inf -inf -1 0 1 -0.0 1e400 1e-400 1e308 0x10 1_000 1d5 T F true false null None".split()),
    *(b"2147483647 2147483648 -2147483649 9223372036854775808 99999999999999999999999999".split()),
    *(b'" \' """ \\ [ ] { } ( ) = : , . # \n \r\n \t'.split(b" ")),
    b"",
    b"\0",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\\u0000",
    b"\\ud800",
    b"\xc3\x85",
    b"\xe2\x82\x83",
    b"\xd9\xa3",
    b"\x1f\x8b",
    b"%s%n",
    b"../../x",
    b"~nobody/x",
    b"H",
    b"Og",
    b"X",
)
_WORD = re.compile(rb"[A-Za-z0-9_.+\-]+")
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
_BINARY = (
    *(struct.pack("<i", value) for value in (0, 1, -1, 2**31 - 1, -(2**31), 255, 65535)),
    *(struct.pack(">i", value) for value in (1, 2**31 - 1)),
    *(struct.pack("<d", value) for value in (0.0, -1.0, 1e308, -1e308, 1e-308, float("nan"), float("inf"))),
)
_OPENING = b"[{(\"'"
LARGEST = 200_000  # bytes of an input
_POOL = 400

Change = Callable[[random.Random, bytearray, Sequence[bytes]], bytearray]


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randrange(len(data) + 1)


def _range(rng: random.Random, data: bytearray) -> tuple[int, int]:
    begin = _place(rng, data)
    return begin, min(len(data), begin + rng.choice((1, 1, 2, 4, 16, 64, 256)))


def _flip(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    for _ in range(rng.choice((1, 1, 1, 4, 16))):
        if data:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return data


def _cut(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    return data[: _place(rng, data)]


def _remove(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    begin, end = _range(rng, data)
    del data[begin:end]
    return data


def _repeat(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    begin, end = _range(rng, data)
    data[end:end] = data[begin:end] * rng.choice((1, 1, 2, 30))
    return data


def _move(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    begin, end = _range(rng, data)
    at = _place(rng, data)
    data[at : at + end - begin] = data[begin:end]
    return data


def _insert(rng: random.Random, data: bytearray, words: Sequence[bytes]) -> bytearray:
    at = _place(rng, data)
    data[at:at] = rng.choice(words)
    return data


def _replace(pattern: re.Pattern[bytes]) -> Change:
    def change(rng: random.Random, data: bytearray, words: Sequence[bytes]) -> bytearray:
        # From a random place on, so that the whole file need not be searched.
        found = pattern.search(data, _place(rng, data)) or pattern.search(data)
        if found is not None:
            data[found.start() : found.end()] = rng.choice(words)
        return data

    return change


def _add(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    """Add a little to a number, or multiply it."""
    found = _NUMBER.search(data, _place(rng, data))
    if found is not None and len(found[0]) < 30:
        value = float(found[0])
        changed = rng.choice((value + 1, value - 1, -value, 10 * value, 0.5 * value, value * 1e9))
        text = repr(int(changed)) if changed == changed // 1 and abs(changed) < 1e15 else repr(changed)
        data[found.start() : found.end()] = text.encode()
    return data


def _overwrite(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at, value = _place(rng, data), rng.choice(_BINARY)
    data[at : at + len(value)] = value
    return data


def _lines(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    lines = data.split(b"\n")
    first, second = rng.randrange(len(lines)), rng.randrange(len(lines))
    kind = rng.randrange(3)
    if kind == 0:
        lines[first], lines[second] = lines[second], lines[first]
    elif kind == 1:
        del lines[first]
    else:
        lines.insert(second, lines[first])
    return bytearray(b"\n").join(lines)


def _nest(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at = _place(rng, data)
    data[at:at] = bytes([rng.choice(_OPENING)]) * rng.choice((2, 10, 200, 5000, 50_000))
    return data


def _noise(rng: random.Random, data: bytearray, _: Sequence[bytes]) -> bytearray:
    at = _place(rng, data)
    data[at:at] = rng.randbytes(rng.choice((1, 2, 8, 64)))
    return data


_CHANGES: tuple[Change, ...] = (
    _flip,
    _cut,
    _remove,
    _repeat,
    _move,
    _insert,
    _replace(_WORD),
    _replace(_WORD),
    _replace(_NUMBER),
    _replace(_NUMBER),
    _add,
    _add,
    _overwrite,
    _lines,
    _lines,
    _noise,
)


class Mutator:
    """An endless source of inputs, the same for the same seed.

    Inputs with an outcome that was not seen before join the seeds: the next ones are changes of these too.

    Parameters
    ----------
    seeds : sequence of bytes
        Inputs that can be read.
    words : sequence of bytes
        Words of their language.
    seed : int
    """

    def __init__(self, seeds: Sequence[bytes], words: Sequence[bytes], seed: int) -> None:
        self._seeds, self._found = list(seeds), list[bytes]()
        self._words = (*WORDS, *words)
        self._rng = random.Random(seed)

    def next(self) -> bytes:
        """Return an input."""
        rng = self._rng
        pool = self._found if self._found and rng.random() < 0.3 else self._seeds
        data = bytearray(rng.choice(pool))
        if rng.random() < 0.05:
            other = rng.choice(self._seeds)
            data = data[: _place(rng, data)] + bytearray(other)[rng.randrange(len(other) + 1) :]
        if rng.random() < 0.01:
            data = _nest(rng, data, self._words)
        for _ in range(rng.choice((1, 1, 1, 1, 1, 2, 2, 3, 6))):
            data = rng.choice(_CHANGES)(rng, data, self._words)
        return bytes(data[:LARGEST])

    def keep(self, data: bytes) -> None:
        """Take an input among those that are changed further."""
        if len(self._found) < _POOL:
            self._found.append(data)
        else:
            self._found[self._rng.randrange(_POOL)] = data


def smallest(data: bytes, still: Callable[[bytes], bool], tries: int = 2000) -> bytes:
    """Return a short part of an input for which something still holds."""
    size = len(data) // 2
    while size and tries > 0:
        at = 0
        while at < len(data) and tries > 0:
            shorter = data[:at] + data[at + size :]
            tries -= 1
            if still(shorter):
                data = shorter
            else:
                at += size
        size //= 2
    return data
