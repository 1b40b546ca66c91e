"""`python -m jobs` lists the commands."""

import ast
import re
from pathlib import Path

from jobs.command.command_line import console
from jobs.command.streams import ending_quietly

HERE = Path(__file__).parent
IN_ORDER_OF_USE = {
    "first": ("demo", "sample"),
    "from MIDI to a model": ("build_shards", "show", "train", "report", "evaluate", "export", "latent", "map"),
    "many runs, other machines": ("sweep", "doctor", "submit", "train_on_ray"),
    "afterwards": ("status", "logs", "retry", "cancel", "clean"),
}


def commands() -> dict[str, str]:
    """Name and first docstring sentence of each module here that can be run."""
    sentences = {}
    for path in sorted(HERE.glob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.stem != "__main__" and '__name__ == "__main__"' in source:
            sentence = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
            sentences[path.stem] = re.split(r": python|\. ", sentence)[0].rstrip(".")
    return sentences


def _show() -> None:
    sentences = commands()
    for heading, names in IN_ORDER_OF_USE.items():
        console.print(f"{heading}:", style="bold")
        for name in names:
            console.print(f"  python -m jobs.{name:<13} {sentences[name]}", soft_wrap=True)


if __name__ == "__main__":
    with ending_quietly():
        _show()
