"""What disks, networks and careless programs do to any file; a generator of random numbers decides how.

Each damage takes any bytes, so that several can befall one file.
"""

import gzip
from collections.abc import Callable
from random import Random

Damage = Callable[[bytes, Random], bytes]


def cut(data: bytes, rng: Random) -> bytes:
    """A download broke off."""
    return data[: rng.randrange(len(data) + 1)]


def flip_bits(data: bytes, rng: Random) -> bytes:
    """An old disk, a bad cable."""
    damaged = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5, 100)) if data else 0):
        damaged[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwrite_a_stretch(data: bytes, rng: Random) -> bytes:
    """A sector that belongs to another file now, or was never written."""
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 16, 512))
    return data[:start] + rng.choice((bytes(size), rng.randbytes(size))) + data[start + size :]


def lose_a_stretch(data: bytes, rng: Random) -> bytes:
    """A lost packet, a serial line without flow control."""
    start = rng.randrange(len(data) + 1)
    return data[:start] + data[start + rng.choice((1, 2, 7, 512)) :]


def repeat_a_stretch(data: bytes, rng: Random) -> bytes:
    """A block that was sent or saved twice."""
    start, size = rng.randrange(len(data) + 1), rng.choice((1, 5, 64, 1024))
    return data[: start + size] + data[start : start + size] * rng.choice((1, 3)) + data[start + size :]


def unix_to_dos_lines(data: bytes, rng: Random) -> bytes:
    """A file server in text mode."""
    return data.replace(b"\n", b"\r\n") if rng.random() < 0.5 else data.replace(b"\r", b"\n")


def latin_1_to_utf_8(data: bytes, rng: Random) -> bytes:
    """A program that took the file for text and "repaired" its encoding."""
    return data.decode("latin-1").encode() if rng.random() < 0.5 else data.decode(errors="replace").encode()


def seven_bits(data: bytes, rng: Random) -> bytes:
    """A mail gateway of the eighties."""
    return bytes(byte & 0x7F for byte in data)


def junk_before(data: bytes, rng: Random) -> bytes:
    """A MacBinary header, a byte-order mark, what a sequencer keeps before the file."""
    return rng.choice((bytes(128), b"\xef\xbb\xbf", rng.randbytes(rng.randrange(1, 300)))) + data


def junk_after(data: bytes, rng: Random) -> bytes:
    """A tape block's padding, or a second file pasted behind the first."""
    return data + rng.choice((bytes(4096), b"\x1a" * 100, rng.randbytes(rng.randrange(1, 300)), data))


def text(data: bytes, rng: Random) -> bytes:
    """The error page of a web server, saved under the name of the file that was asked for."""
    pages = (b"<!DOCTYPE html><title>404 Not Found</title>", b"MThd is how a MIDI file begins", b"", b"\n", b"MThd")
    return rng.choice(pages) + rng.choice((b"", b"%x" % rng.getrandbits(64)))


def noise(data: bytes, rng: Random) -> bytes:
    """A recovered file: the header by luck, everything else by chance."""
    return rng.choice((b"", b"MThd", data[:14], data[:22])) + rng.randbytes(rng.choice((1, 100, 10_000)))


def compressed(data: bytes, rng: Random) -> bytes:
    """Packed to save space and renamed back."""
    return gzip.compress(data, mtime=0)


DAMAGES: tuple[Damage, ...] = (
    cut,
    flip_bits,
    overwrite_a_stretch,
    lose_a_stretch,
    repeat_a_stretch,
    unix_to_dos_lines,
    latin_1_to_utf_8,
    seven_bits,
    junk_before,
    junk_after,
    text,
    noise,
    compressed,
)
