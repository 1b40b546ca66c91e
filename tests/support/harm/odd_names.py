"""Names of files as crawls and old archives have them."""

from itertools import product
from random import Random

STEMS = (
    "Beat",
    "beat",
    "Schlagzeug für Anfänger",
    "Schlagzeug fu\u0308r Anfa\u0308nger",
    "ドラム 🥁",
    "\u202edneb thgir ot tfel",
    "zero\u200bwidth",
    "line\nbreak",
    "tab\tulator\r",
    "line\u2028separator",
    "\x1b[31mred\x07",
    "[red]",
    "[/bold]",
    "100% %s %n",
    "{0}{name}",
    "$(exit 1) `exit 1`; exit 1",
    "quo'te\"s",
    "back\\slash",
    "\\xff",
    "-rf",
    " spaces ",
    "dots...",
    "#1",
    "song#1",
    "CON",
    "a" * 240,
)
BYTES = (b"\xff", b"caf\xe9", b"\x83h\x83\x89\x83\x80", b"\xed\xa0\x80", b"\xf0\x9f\xa5")
"""Latin 1, Shift-JIS, halves of characters: no UTF-8."""
FOLDERS = ("", "Nirvana/", "\\x6d/deep/er/", "été/", "[i]/\n/", "x.mid/")
SUFFIXES = (".mid", ".MID", ".midi", ".kar", ".rmi")


def odd_names(count: int, rng: Random) -> list[bytes]:
    """Different paths, all stems side by side in one folder before the next; no more than there are combinations."""
    stems = [stem.encode() for stem in STEMS] + list(BYTES)
    places = list(product(FOLDERS, SUFFIXES))
    rng.shuffle(places)
    names = [folder.encode() + stem + suffix.encode() for (folder, suffix), stem in product(places, stems)]
    assert count <= len(names), f"{count} of {len(names)} names"
    return names[:count]
