"""Eight loops to hear: as people played them, as the shipped performance model plays the same hits, and with the mean.

    python -m tests.experiments.listen --groove GROOVE_DIR --out docs/listen

Each is a MIDI file and a sound file of the own kit (Ogg Vorbis, 48 kHz, stereo). The page `README.md` beside them names
the performance that each is an excerpt of, with its licence. The excerpts were chosen by their styles, before anything
was played. MIDI files are the same at each run; an Ogg file has a random serial number in it.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import typer

from jobs.command.command_line import console, run_command
from musicvae.durable import write_whole
from musicvae.groove.groove import DrumGroove
from musicvae.groove.sound import SAMPLE_RATE, render_loop
from musicvae.midi.writer import groove_to_midi
from musicvae.pretrained.load import load
from musicvae.pretrained.performer import Performer, shipped_performer

WAYS = ("human", "model", "mean")
COMPRESSION = 0.75
"""Of sound files: 0 is the best and largest, 1 the smallest."""


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Four bars of a training file of the Groove MIDI Dataset.

    Attributes:
        name: of its files here.
        source: in the data set.
        bar: its first bar, counted from 1.
    """

    name: str
    source: str
    bar: int = 5


EXCERPTS = (
    Excerpt("funk", "drummer1/session1/1_funk_80_beat_4-4.mid"),
    Excerpt("hiphop", "drummer7/session1/17_hiphop_100_beat_4-4.mid"),
    Excerpt("rock-shuffle", "drummer8/session1/20_rock-shuffle_112_beat_4-4.mid"),
    Excerpt("jazz-swing", "drummer10/session1/9_jazz-swing_110_beat_4-4.mid"),
    Excerpt("second-line", "drummer5/session2/6_neworleans-secondline_99_beat_4-4.mid"),
    Excerpt("afrobeat", "drummer8/session2/13_afrobeat_103_beat_4-4.mid"),
    Excerpt("samba", "drummer5/session1/3_latin-brazilian-samba_89_beat_4-4.mid"),
    Excerpt("motown", "drummer7/session2/106_soul-motown_104_beat_4-4.mid"),
)


def main(
    groove: Path = typer.Option(..., envvar="GROOVE_DIR", help="The Groove MIDI Dataset, unpacked."),
    out: Path = typer.Option(..., help="Folder of the loops and their page."),
) -> None:
    """Write the loops and their page."""
    out.mkdir(parents=True, exist_ok=True)
    performer, rows = shipped_performer(), []
    for number, excerpt in enumerate(EXCERPTS):
        human = DrumGroove.from_midi(groove / excerpt.source, bar=excerpt.bar - 1)
        for way, played in loops(human, performer, seed=number).items():
            file = out / f"{excerpt.name}-{way}.mid"
            write_whole(file, groove_to_midi(played, performer.drum_map))
            write_whole(file.with_suffix(".ogg"), ogg(render_loop(played, performer.drum_map, stereo=True)))
        rows.append(row_of(excerpt, human))
        console.print(f"{excerpt.name}: {', '.join(WAYS)}", soft_wrap=True)
    write_whole(out / "README.md", page(rows, performer))


def loops(human: DrumGroove, performer: Performer, *, seed: int) -> dict[str, DrumGroove]:
    """The hits of a groove, played in each of the `WAYS`; of its playing the model gets the mean velocity alone."""
    level = human.velocity[human.hits].mean()
    unplayed = replace(human, velocity=human.hits * np.float32(level), offset=np.zeros_like(human.offset))
    model = performer.humanize(unplayed, seed=seed, timing=1.0, velocity=1.0)
    mean = load("generation").feel.centred().groove(human.hits, tempo=human.tempo)
    return dict(zip(WAYS, (human, model, mean), strict=True))


def ogg(sound: np.ndarray) -> bytes:
    """Sound as an Ogg Vorbis file."""
    data = io.BytesIO()
    soundfile.write(data, sound, SAMPLE_RATE, format="OGG", subtype="VORBIS", compression_level=COMPRESSION)
    return data.getvalue()


def row_of(excerpt: Excerpt, human: DrumGroove) -> str:
    """The row of an excerpt in the table of the page."""
    links = " | ".join(f"[sound]({excerpt.name}-{way}.ogg), [MIDI]({excerpt.name}-{way}.mid)" for way in WAYS)
    bars = f"{excerpt.bar} to {excerpt.bar + human.grid.bars - 1}"
    return f"| {excerpt.name}, {human.tempo:.0f} bpm | {links} | `{excerpt.source}`, bars {bars} |"


def page(rows: list[str], performer: Performer) -> str:
    """README.md of the folder."""
    return f"""# Listen

Eight loops of four bars, to hear what the performance model adds. Each is there three times with the same hits: as a
person played it (human), as the shipped model plays these hits (model), and with the mean velocity and timing of the
training data (mean).

    python -m tests.experiments.listen --groove GROOVE_DIR --out docs/listen

makes them, with the weights `{performer.weights_hash}` and the number of the row, from 0, as the seed. Nothing was
chosen by ear. The sound is that of the synthesised kit of `jobs.sample --audio`.

| loop | human | model | mean | excerpt of |
| --- | --- | --- | --- | --- |
{chr(10).join(rows)}

The human loops are excerpts of training files of the [Groove MIDI
Dataset](https://magenta.tensorflow.org/datasets/groove) by Google LLC, licensed under [CC BY
4.0](https://creativecommons.org/licenses/by/4.0/). Changes: four bars were cut out, the pads of a drum are written as
one pitch, of two hits of a drum on one sixteenth the louder was kept, and the bars are a loop. The model and mean loops
have the same hits and the same licence.

Jon Gillick, Adam Roberts, Jesse Engel, Douglas Eck, and David Bamman. "Learning to Groove with Inverse Sequence
Transformations." ICML 2019.
"""


if __name__ == "__main__":
    run_command(main)
