"""One job of sampling: all that any process needs to make and write any of its grooves, as MIDI and as sound.

This is the only file that knows soundfile.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int16

from jobs.sampler.options import Audio, Form, SampleOptions
from jobs.sampler.recipe import SampleRecipe, default_model, recipe_of
from musicvae.errors import ConfigError
from musicvae.generation.settings import BATCH
from musicvae.groove.drum_map import DrumMap
from musicvae.groove.groove import DrumGroove, hits_from_tokens
from musicvae.groove.sound import SAMPLE_RATE, render_loop, wav_bytes
from musicvae.midi.writer import MidiLayout, grooves_to_midi
from musicvae.pretrained.load import load, load_run
from musicvae.pretrained.model import TrainedModel

FILES_PER_FOLDER = 1000
"""Most grooves in a folder; file managers and shared file systems suffer from more."""
MIDI_SUFFIX = ".mid"


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Where a model lies.

    Attributes:
        run: a run folder or an export; None where `name` is loaded.
        name: a shipped model, or a folder of an export.
    """

    run: str | None
    name: str


@lru_cache(maxsize=1)
def loaded(place: ModelPlace) -> TrainedModel:
    """The model at a place; a process that asks again gets the same."""
    return load_run(Path(place.run)) if place.run is not None else load(place.name)


@dataclass(frozen=True, slots=True)
class SampleJob:
    """What to make of a model and how to hand it over; not how much of it, nor where it is made.

    Attributes:
        weights: hash of the model's weights, as the job began with them.
        drum_map: the model's drums, with the pitches that they are written as.
        gallery: whether a page of the grooves is made.
        shards: folder or URL of the training windows, where the distance to them is asked for.
        settings: all that decides the output, in plain values.
    """

    out: Path
    model: ModelPlace
    weights: str
    made: SampleRecipe
    form: Form
    drum_map: DrumMap
    layout: MidiLayout
    audio: Audio
    gallery: bool
    shards: str | None
    settings: dict[str, Any]

    def trained(self) -> TrainedModel:
        """The model of the job.

        Raises:
            ConfigError: its weights are others now.
        """
        trained = loaded(self.model)
        if trained.weights_hash != self.weights:
            raise ConfigError(
                "the model's weights have changed since the job began",
                expected=f"weights {self.weights}",
                found=f"weights {trained.weights_hash}",
                likely="the run is still training",
                do="export the run with python -m jobs.export, and sample the export into another --out",
            )
        return trained

    @property
    def settings_hash(self) -> str:
        """A short hash of the settings."""
        return hashlib.sha256(json.dumps(self.settings, sort_keys=True).encode()).hexdigest()[:12]

    def name(self, item: int) -> str:
        """The id of an item, the same for every count."""
        return f"groove-{item:05d}"

    @property
    def suffixes(self) -> tuple[str, ...]:
        """Of the files that each groove has, or would have where they are packed."""
        return tuple(filter(None, (MIDI_SUFFIX, sound_suffix(self.audio))))

    def file(self, item: int, suffix: str = MIDI_SUFFIX) -> str:
        """Path of an item's file in the output."""
        return f"{item // FILES_PER_FOLDER:03d}/{self.name(item)}{suffix}"

    def caption(self, item: int) -> str:
        """What stands over an item's drum grid."""
        source = self.made.source(item)
        return self.name(item) + (f" like {source.source}, bar {source.bar + 1}" if source else "")

    def groove(self, trained: TrainedModel, item: int, tokens: Int16[np.ndarray, " step"]) -> DrumGroove:
        """An item's tokens as a groove with velocity, timing and tempo."""
        hits = hits_from_tokens(tokens, trained.drum_map.num_drums)
        tempo = self.made.tempo_of(trained, item)
        return self.made.feel(trained).groove(hits, tempo=tempo, source=self.caption(item))

    def contents(
        self, trained: TrainedModel, items: Sequence[int], tokens: Int16[np.ndarray, "item step"]
    ) -> Iterator[dict[str, bytes]]:
        """What each item's files hold, by suffix; one loop of sound is held at a time."""
        midi = self.midi(trained, items, tokens)
        for item, own, data in zip(items, tokens, midi, strict=True):
            contents = {MIDI_SUFFIX: data}
            if self.audio is not Audio.NONE:
                groove = self.groove(trained, item, own)
                contents[sound_suffix(self.audio)] = sound_bytes(self.audio, groove, trained.drum_map)
            yield contents

    def midi(self, trained: TrainedModel, items: Sequence[int], tokens: Int16[np.ndarray, "item step"]) -> list[bytes]:
        """The MIDI file of each item."""
        hits, feel = hits_from_tokens(tokens, trained.drum_map.num_drums), self.made.feel(trained)
        tables = [np.tile(of_bar, (trained.grid.bars, 1)) for of_bar in (feel.velocity, feel.offset)]
        velocity, offset = (np.broadcast_to(table, hits.shape) for table in tables)
        tempos = [self.made.tempo_of(trained, item) for item in items]
        return grooves_to_midi(hits, velocity, offset, tempos, [*map(self.name, items)], trained.grid, self.layout)


def job_of(options: SampleOptions, out: Path) -> SampleJob:
    """The job that options ask for.

    Raises:
        ConfigError: no such model, drum map or file, or they do not fit together.
        DataError: a damaged model, or a file that cannot be varied.
    """
    place = ModelPlace(options.run, options.preset or default_model(options))
    trained = loaded(place)
    made = recipe_of(options, trained)
    drum_map = _written_as(options.pitches, trained.drum_map)
    pitches = tuple(drum_map.written_pitch.tolist())
    layout = MidiLayout(pitches, options.midi_format, options.ticks)  # type: ignore[arg-type]
    settings = {
        **made.settings(),
        "weights": trained.weights_hash,
        "step": trained.step,
        "training_shards": trained.fingerprint,
        "inner_batch": BATCH,
        "feel": hashlib.sha256(trained.feel.velocity.tobytes() + trained.feel.offset.tobytes()).hexdigest()[:12],
        "form": options.form,
        "pitches": list(layout.pitches),
        "midi_format": layout.file_format,
        "ticks": layout.ticks_per_quarter,
        "audio": options.audio,
        "gallery": options.gallery,
        "nearest_training": options.shards is not None,
        "drop_duplicates": options.drop_duplicates,
        "drop_memorised": options.drop_memorised,
        "best": options.best,
        "by": options.by,
        "refill": options.refill,
        "pick": None if options.pick is None else _list_hash(options.pick),
    }
    return SampleJob(
        out=out,
        model=place,
        weights=trained.weights_hash,
        made=made,
        form=options.form,
        drum_map=drum_map,
        layout=layout,
        audio=options.audio,
        gallery=options.gallery,
        shards=options.shards,
        settings=settings,
    )


def _list_hash(items: Sequence[int]) -> str:
    return f"{len(items)} grooves, {hashlib.sha256(json.dumps(items).encode()).hexdigest()[:12]}"


def _written_as(name: str | None, own: DrumMap) -> DrumMap:
    drum_map = own if name is None else DrumMap.load(name)
    if drum_map.classes != own.classes:
        raise ConfigError(
            f"--pitches {name} cannot be used",
            expected=f"a drum map with the model's classes: {', '.join(own.classes)}",
            found=", ".join(drum_map.classes),
            do="name roland or general_midi, or a map of your own with these classes",
        )
    return drum_map


def sound_suffix(audio: Audio) -> str:
    """Of a file with a loop; empty where there is to be none."""
    return "" if audio is Audio.NONE else f".{audio}"


def sound_bytes(audio: Audio, groove: DrumGroove, drum_map: DrumMap) -> bytes:
    """The file of a loop, mono, 16 bits, exactly as long as its bars.

    Raises:
        ValueError: no kind of file is asked for.
    """
    sound = render_loop(groove, drum_map)
    match audio:
        case Audio.WAV:
            return wav_bytes(sound)
        case Audio.FLAC:
            import soundfile  # takes a while to load, so only where it is asked for

            data = io.BytesIO()  # soundfile's own errors would not say that the disk is full
            soundfile.write(data, sound, SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            return data.getvalue()
        case Audio.NONE:
            raise ValueError("no sound is asked for")
