"""Ways in which a file is found broken."""

from pathlib import Path

import pytest

DAMAGES = ("flipped", "cut", "missing")
each_damage = pytest.mark.parametrize("damage", DAMAGES)


def damage_file(path: Path, damage: str) -> None:
    """Flips one bit in the middle, cuts the file in half, or removes it."""
    data = bytearray(path.read_bytes())
    match damage:
        case "flipped":
            data[len(data) // 2] ^= 1
            path.write_bytes(data)
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "missing":
            path.unlink()
        case _:
            raise ValueError(f"no damage {damage!r}, known are {DAMAGES}")
