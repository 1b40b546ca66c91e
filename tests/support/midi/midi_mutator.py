"""MIDI files that are broken, absurd or hostile, made out of sound ones; a seed decides everything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from tests.support.harm.byte_damage import DAMAGES
from tests.support.midi.midi_oddities import ODDITIES

Mutation = Callable[[bytes, Random], bytes]
MUTATIONS: tuple[Mutation, ...] = DAMAGES + ODDITIES
SHARE_OF_PAIRS = 0.3
"""How often a second mutation befalls a file."""
MOST_BYTES = 1 << 20
"""What a first mutation may have made of a file that a second one befalls: two that add make 35 MB, read in 25 s."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file, and the names of the mutations that made it."""

    data: bytes
    made_by: str


def mutants(originals: Sequence[bytes], count: int, seed: int) -> list[Mutant]:
    """`count` files of different content, none of it an original's; each mutation comes once before any comes again."""
    taken = set(originals)
    made: list[Mutant] = []
    attempt = 0
    while len(made) < count:
        rng = Random(f"{seed} {attempt}")
        mutations = [MUTATIONS[attempt % len(MUTATIONS)]]
        if attempt >= len(MUTATIONS) and rng.random() < SHARE_OF_PAIRS:
            mutations.append(rng.choice(MUTATIONS))
        data = mutations[0](rng.choice(originals), rng)
        if len(data) > MOST_BYTES:
            mutations = mutations[:1]
        for mutation in mutations[1:]:
            data = mutation(data, rng)
        if data not in taken:
            taken.add(data)
            made.append(Mutant(data, " then ".join(mutation.__name__ for mutation in mutations)))
        attempt += 1
    return made
