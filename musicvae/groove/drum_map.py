"""Drum classes: which class each MIDI pitch belongs to, which pitch a class is written as, and what pitches are called.

`drum_bits` gives a set of drum classes, by name, as the bits of a token.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from musicvae.errors import ConfigError

if TYPE_CHECKING:  # a manifest is read without numpy, on a login node
    import numpy

MAX_DRUMS = 15
"""Tokens are stored as int16, one bit a class."""
NO_CLASS = -1
"""What `DrumMap.class_of_pitch` holds for a pitch that the map does not know."""
FIRST_PITCH = 27
PITCH_NAMES = (
    *("High Q", "Slap", "Scratch Push", "Scratch Pull", "Sticks", "Square Click", "Metronome Click", "Metronome Bell"),
    *("Acoustic Bass Drum", "Bass Drum 1", "Side Stick", "Acoustic Snare", "Hand Clap", "Electric Snare"),
    *("Low Floor Tom", "Closed Hi-Hat", "High Floor Tom", "Pedal Hi-Hat", "Low Tom", "Open Hi-Hat", "Low-Mid Tom"),
    *("Hi-Mid Tom", "Crash Cymbal 1", "High Tom", "Ride Cymbal 1", "Chinese Cymbal", "Ride Bell", "Tambourine"),
    *("Splash Cymbal", "Cowbell", "Crash Cymbal 2", "Vibraslap", "Ride Cymbal 2", "Hi Bongo", "Low Bongo"),
    *("Mute Hi Conga", "Open Hi Conga", "Low Conga", "High Timbale", "Low Timbale", "High Agogo", "Low Agogo"),
    *("Cabasa", "Maracas", "Short Whistle", "Long Whistle", "Short Guiro", "Long Guiro", "Claves", "Hi Wood Block"),
    *("Low Wood Block", "Mute Cuica", "Open Cuica", "Mute Triangle", "Open Triangle", "Shaker", "Jingle Bell"),
    *("Bell Tree", "Castanets", "Mute Surdo", "Open Surdo"),
)
"""Of pitches 27 to 87: General MIDI 2, which names 35 to 81 as General MIDI 1 does."""
KIT_PITCHES = (22, 26, *range(35, 39), *range(40, 54), 55, 57, 59)
"""What a drum kit sends: General MIDI's pitches without claps and percussion, and the edges of the TD-11's hi-hat."""
OWN_PITCHES = {"general_midi": KIT_PITCHES, "roland": (*KIT_PITCHES, 58)}
"""Of the shipped maps, the pitches whose class is their own drum; 58 is the rim of the TD-11's low tom."""
SHIPPED_MAPS = Path(__file__).with_name("drum_maps.yaml")


@dataclass(frozen=True)
class DrumMap:
    """Drum classes in bit order, each with its MIDI pitches; the first pitch of a class is the one that is written.

    Raises:
        ValueError: more classes than a token has bits, one without pitches, a pitch outside 0..127 or in two classes.
    """

    name: str
    pitches: Mapping[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        owner: dict[int, str] = {}
        if not self.pitches:
            raise ValueError(f"drum map {self.name!r} has no classes")
        if len(self.pitches) > MAX_DRUMS:
            raise ValueError(f"drum map {self.name!r} has {len(self.pitches)} classes, at most {MAX_DRUMS} fit a token")
        for drum, pitches in self.pitches.items():
            if not pitches:
                raise ValueError(f"drum map {self.name!r}: class {drum!r} has no pitch")
            for pitch in pitches:
                if not 0 <= pitch <= 127:
                    raise ValueError(f"drum map {self.name!r}: pitch {pitch} of {drum!r} is outside 0..127")
                if pitch in owner:
                    raise ValueError(f"drum map {self.name!r}: pitch {pitch} is in {owner[pitch]!r} and {drum!r}")
                owner[pitch] = drum

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.pitches)

    @property
    def num_drums(self) -> int:
        return len(self.pitches)

    @property
    def vocab(self) -> int:
        """Number of tokens: one for each subset of the classes, 512 for nine."""
        return 1 << self.num_drums

    @cached_property
    def class_of_pitch(self) -> "numpy.ndarray":
        """int8, shape (128,): the class of every MIDI pitch, `NO_CLASS` where there is none."""
        import numpy as np

        table = np.full(128, NO_CLASS, dtype=np.int8)
        for drum, pitches in enumerate(self.pitches.values()):
            table[list(pitches)] = drum
        return table

    @cached_property
    def nearest_class_of_pitch(self) -> "numpy.ndarray":
        """int8, shape (128,): as `class_of_pitch`, with the class of the nearest pitch that has one, the lower of
        two, where there is none."""
        import numpy as np

        known = np.flatnonzero(self.class_of_pitch != NO_CLASS)
        nearest = np.abs(np.arange(128)[:, None] - known).argmin(axis=1)
        return self.class_of_pitch[known[nearest]]

    @cached_property
    def makeshift(self) -> "numpy.ndarray":
        """int64, shape (128,): 1 for pitches that a shipped map gives to another drum's class for want of their own."""
        import numpy as np

        own_pitches = np.isin(np.arange(128), OWN_PITCHES.get(self.name, range(128)))
        return ((self.class_of_pitch != NO_CLASS) & ~own_pitches).astype(np.int64)

    @cached_property
    def written_pitch(self) -> "numpy.ndarray":
        """uint8, shape (drum,): the pitch that each class is written as."""
        import numpy as np

        return np.array([pitches[0] for pitches in self.pitches.values()], dtype=np.uint8)

    @classmethod
    def load(cls, name: str) -> "DrumMap":
        """A shipped map by name, or one of your own from a YAML file that holds `class: [pitches]`.

        Raises:
            ConfigError: no such map or file, or the file holds no valid map.
        """
        import yaml  # a map that comes with a model is used without it

        from musicvae.settings import load_yaml

        shipped = yaml.safe_load(SHIPPED_MAPS.read_text(encoding="utf-8"))
        if name in shipped:
            return cls(name, {drum: tuple(pitches) for drum, pitches in shipped[name].items()})
        try:
            classes = load_yaml(Path(name).read_text(encoding="utf-8"))
            return cls(Path(name).stem, {str(drum): tuple(map(int, pitches)) for drum, pitches in classes.items()})
        except OSError:
            problem = f"{name!r}, which is not a shipped map and not a readable file"
        except (ValueError, TypeError, AttributeError, OverflowError, yaml.YAMLError) as error:
            problem = f"{name}: {error}"
        raise ConfigError(
            "the drum map cannot be used",
            expected=f"one of {', '.join(sorted(shipped))}, or a YAML file with lines `class: [pitches]`",
            found=problem,
            do=f"choose a shipped map, or write a file like the entries of {SHIPPED_MAPS.name}",
        )


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
                do="give drum classes, separated by commas",
            )
        bits |= 1 << drum_map.classes.index(name)
    return bits


def pitch_name(pitch: int) -> str:
    """The name of a drum pitch, empty where the standard has none."""
    return PITCH_NAMES[pitch - FIRST_PITCH] if 0 <= pitch - FIRST_PITCH < len(PITCH_NAMES) else ""
