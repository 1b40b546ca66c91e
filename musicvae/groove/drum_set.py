"""Sets of drums by name, as the bits of a token."""

from collections.abc import Iterable

from musicvae.errors import ConfigError
from musicvae.groove.drum_map import DrumMap


def drum_bits(names: Iterable[str], drum_map: DrumMap) -> int:
    """The token that hits these drums and no others.

    Raises:
        ConfigError: a drum that the map does not have.
    """
    bits = 0
    for name in names:
        if name not in drum_map.classes:
            raise ConfigError(
                f"there is no drum {name!r}",
                expected=f"some of {', '.join(drum_map.classes)}",
                found=repr(name),
                do="name drum classes, with commas between them",
            )
        bits |= 1 << drum_map.classes.index(name)
    return bits
