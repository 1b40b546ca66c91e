"""What the page of a gallery carries, read back."""

import base64
import json
import re
from pathlib import Path

import numpy as np

from musicvae.groove.groove import hits_from_tokens, onset_ticks
from tests.support.runs.sample_fixtures import DRUMS, GRID


class PackedPage:
    """What a page carries, read back."""

    def __init__(self, path: Path) -> None:
        self._html = path.read_text(encoding="utf-8")
        self.about = json.loads(self._script("about"))
        names = [column["name"] for column in self.about["columns"]]
        table = self._array("figures", "<f8").reshape(len(names), -1)
        self.figures = dict(zip(names, table, strict=True))
        self.tokens = self._array("tokens", "<i2").reshape(-1, GRID.num_steps)
        self._velocity, self._offset = self._array("velocity", "u1"), self._array("offset", "<i2") / 65536
        self.kept = np.unpackbits(self._array("kept", "u1"), bitorder="little")
        self.source_tokens = self._array("sourceTokens", "<i2").reshape(-1, GRID.num_steps)
        self.sources = self._array("sources", "<i2").reshape(len(self.tokens), -1)

    def source_names(self) -> list[list[str]]:
        """The names of the windows that each groove was made from."""
        return [[self.about["sources"][row] for row in rows] for rows in self.sources.tolist()]

    def notes(self) -> list[set[tuple[int, int, int]]]:
        """(tick, pitch, velocity) of the hits of each groove, as the page writes them."""
        pitches = [drum["pitch"] for drum in self.about["drums"]]
        groove, step, drum = np.nonzero(hits_from_tokens(self.tokens, DRUMS.num_drums))
        division = self.about["ticksPerQuarter"]
        ticks = onset_ticks(step, self._offset, GRID, division) % (GRID.num_steps * division // GRID.steps_per_beat)
        found: list[set[tuple[int, int, int]]] = [set() for _ in self.tokens]
        for place, tick, own, velocity in zip(groove, ticks.tolist(), drum, self._velocity.tolist(), strict=True):
            found[place].add((tick, pitches[own], velocity))
        return found

    def _script(self, name: str) -> str:
        found = re.search(rf'<script [^>]*id="{name}">(.*?)</script>', self._html, re.DOTALL)
        assert found is not None, name
        return found[1]

    def _array(self, name: str, dtype: str) -> np.ndarray:
        return np.frombuffer(base64.b64decode(self._script(name)), dtype)
