"""Bent inputs, and what must hold for each: no error of others, nothing slow, memory flat."""

import asyncio
import contextlib
import ctypes
import gc
import hashlib
import logging
import os
import random
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Self

import psutil

CORPUS = Path(__file__).parent / "corpus"
"""A folder for each kind of input, with those to begin with, and those that have found a fault."""
SLOWEST = 0.02
"""Seconds of this thread's CPU time that an input may take."""
GROWTH = 16 * 2**20
"""Bytes by which the process may grow after a quarter of the inputs: more than what an allocator keeps back."""
BATCH = 256
"""Inputs between two looks at the clock, the memory and the event loop."""
_NUMBERS = [0, 1, 2, 3, 4, 0x7F, 0x80, 0xFE, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 1]
_WORDS = [
    b"\x00",
    b"\xff",
    b"\r\n",
    b"\xe2\x80\xa8",
    b"0",
    b"-1",
    b"1e999",
    b"NaN",
    b"99999999999999999999",
    b"{}",
    b"[]",
    b'""',
    b"null",
]


class Mutator:
    """Bends inputs of a corpus, the same ones for the same seed."""

    def __init__(self, corpus: list[bytes], seed: int) -> None:
        self.corpus = corpus
        self.random = random.Random(seed)  # noqa: S311 - no secret

    def __call__(self) -> bytes:
        """Take an input of the corpus, and bend it up to a few times."""
        data = bytearray(self.random.choice(self.corpus))
        for _ in range(self.random.choice([0, 1, 1, 1, 2, 3, 8])):
            self.random.choice(_BENDS)(self, data)
        return bytes(data)

    def at(self, data: bytearray) -> int:
        return self.random.randrange(len(data) + 1)

    def flip(self, data: bytearray) -> None:
        if data:
            data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)

    def put_number(self, data: bytearray) -> None:
        number, size = self.random.choice(_NUMBERS), self.random.choice([1, 2, 2, 4])
        at = self.at(data)
        data[at : at + size] = (number % 256**size).to_bytes(size, "big")

    def put_word(self, data: bytearray) -> None:
        at = self.at(data)
        data[at : at + self.random.choice([0, 0, 1, 4])] = self.random.choice(_WORDS)

    def cut(self, data: bytearray) -> None:
        del data[self.at(data) :]

    def leave_out(self, data: bytearray) -> None:
        at = self.at(data)
        del data[at : at + self.random.choice([1, 2, 4, 16, 64])]

    def repeat(self, data: bytearray) -> None:
        at, size = self.at(data), self.random.choice([1, 4, 16, 64])
        if len(data) < 100_000:
            data[at:at] = data[at : at + size] * self.random.choice([1, 2, 10, 100])

    def splice(self, data: bytearray) -> None:
        other = self.random.choice(self.corpus)
        at = self.random.randrange(len(other) + 1)
        data[self.at(data) :] = other[at:]

    def swap(self, data: bytearray) -> None:
        if len(data) > 1:
            one, two = self.random.randrange(len(data)), self.random.randrange(len(data))
            data[one], data[two] = data[two], data[one]


_BENDS: list[Callable[[Mutator, bytearray], None]] = [
    *(Mutator.flip, Mutator.flip, Mutator.put_number, Mutator.put_number, Mutator.put_word),
    *(Mutator.cut, Mutator.leave_out, Mutator.repeat, Mutator.splice, Mutator.swap),
]


class Watch(logging.Handler):
    """Collects errors that nobody took: in the log, in the event loop, and where they cannot be raised."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.exc_info:
            self.faults.append(logging.Formatter("%(name)s: %(message)s").format(record))

    def __enter__(self) -> Self:
        logging.getLogger().addHandler(self)
        self._unraisable = sys.unraisablehook
        sys.unraisablehook = lambda unraisable: self.faults.append(f"unraisable: {unraisable!r}")
        return self

    def __exit__(self, *exception: object) -> None:
        logging.getLogger().removeHandler(self)
        sys.unraisablehook = self._unraisable

    def listen(self) -> None:
        """Take what the running event loop could not give to anybody."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.faults.append(f"loop: {context!r}"))


def read_corpus(folder: Path) -> list[bytes]:
    """Read inputs: of `.txt` files each line, of `.hex` files likewise, but for comments (#), of others the whole.

    In hexadecimal, - is an empty one.
    """
    inputs = []
    for path in sorted(folder.iterdir()):
        match path.suffix:
            case ".hex":
                lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
                inputs += [bytes.fromhex(line.removeprefix("-")) for line in lines if line]
            case ".txt":
                inputs += path.read_bytes().splitlines()
            case _:
                inputs.append(path.read_bytes())
    return inputs


def resident() -> int:
    """The memory of this process, bytes, after what is free has been given back."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    return psutil.Process().memory_info().rss


class Fuzzer:
    """Feeds inputs to a target for some time: those of its corpus as they are, and then bent.

    Args:
        name: Of the target.
        folder: With inputs to begin with; one that finds a fault is written there, to be tried from then on.
        seconds: How long.
        seed: Of the inputs.
    """

    def __init__(self, name: str, folder: Path, seconds: float, seed: int) -> None:
        self.name = name
        self.folder = folder
        self.seconds = seconds
        self.seed = seed
        self.count = 0
        self.slowest = 0.0
        self._recent: deque[bytes] = deque(maxlen=BATCH)

    async def run(
        self, corpus: list[bytes], feed: Callable[[bytes], Awaitable[None] | None], settle: float = 0
    ) -> None:
        """Feed until the time is up.

        Args:
            corpus: What an honest peer sends, beside what is in the folder.
            feed: Gives one input to the target; what it raises is a fault.
            settle: Seconds to wait after each batch, for what the target does in the background.
        """
        corpus = [*corpus, *read_corpus(self.folder)]
        assert corpus
        unbent = iter(corpus)
        mutate = Mutator(corpus, self.seed)
        began = time.monotonic()
        settled = 0
        collected = began
        gc.collect()
        gc.disable()  # its pauses are nobody's fault
        try:
            with Watch() as watch:
                watch.listen()
                while (passed := time.monotonic() - began) < self.seconds or self.count < len(corpus):
                    for _ in range(BATCH):
                        data = next(unbent, None)
                        await self._feed(feed, mutate() if data is None else data, watch)
                    await asyncio.sleep(settle)
                    self._expect(not watch.faults, "\n".join(watch.faults[:3]), *self._recent)
                    if time.monotonic() - collected > 1:
                        gc.collect()  # or what waits for it would be taken for growth
                        collected = time.monotonic()
                    if not settled and passed > self.seconds / 4:
                        settled = resident()
                growth = resident() - settled if settled else 0
        finally:
            gc.enable()
        rate = self.count / (time.monotonic() - began)
        print(  # noqa: T201 - the figure is what a reader wants
            f"\n{self.name}: {self.count:,} inputs, {rate:,.0f} a second, slowest {self.slowest * 1000:.1f} ms, "
            f"grown by {growth / 2**20:.1f} MiB"
        )
        self._expect(growth < GROWTH, f"memory grew by {growth / 2**20:.1f} MiB")

    async def _feed(self, feed: Callable[[bytes], Awaitable[None] | None], data: bytes, watch: Watch) -> None:
        self._recent.append(data)
        took = float("inf")
        for _ in range(3):  # what another process does to the caches is no fault either
            began = time.thread_time()
            try:
                done = feed(data)
                if done is not None:
                    await done
            except Exception as error:
                raise AssertionError(self._about(f"{error!r}", data)) from error
            took = min(took, time.thread_time() - began)
            if took < SLOWEST:
                break
        self.count += 1
        self.slowest = max(self.slowest, took)
        self._expect(took < SLOWEST, f"took {took * 1000:.1f} ms", data)
        self._expect(not watch.faults, "\n".join(watch.faults[:3]), data)

    def _expect(self, holds: bool, what: str, *inputs: bytes) -> None:  # noqa: FBT001 - an assertion
        if not holds:
            raise AssertionError(self._about(what, *inputs))

    def _about(self, what: str, *inputs: bytes) -> str:
        """Say what was found, and write the inputs that did it, or one of which did, to a file of the corpus."""
        told = f"{self.name}, input {self.count:,} of seed {self.seed}: {what}"
        if not inputs:
            return told
        lines = "".join(f"{data.hex() or '-'}\n" for data in inputs)
        path = self.folder / f"{hashlib.sha256(lines.encode()).hexdigest()[:12]}.hex"
        path.write_text("".join(f"# {line}\n" for line in told.splitlines()) + lines)
        return f"{told}\n{'the input is' if len(inputs) == 1 else f'it is one of {len(inputs)}'} in {path}"


def seed_of_the_day() -> int:
    """Another seed each time, unless one is asked for."""
    return int(os.environ.get("FUZZ_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)


@contextlib.asynccontextmanager
async def recorded(take: Any, name: str) -> AsyncIterator[list[bytes]]:
    """Record what a method of an object is called with, up to a few hundred of it."""
    got: list[bytes] = []
    method = getattr(take, name)

    def record(data: bytes, *arguments: Any, **options: Any) -> Any:
        if len(got) < 400:
            got.append(bytes(data))
        return method(data, *arguments, **options)

    setattr(take, name, record)
    try:
        yield got
    finally:
        delattr(take, name)
