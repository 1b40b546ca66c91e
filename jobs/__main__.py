"""`python -m jobs` lists the commands."""

import ast
from pathlib import Path

from jobs.command.command_line import console

HERE = Path(__file__).parent
NOT_FOR_PEOPLE = ("__main__",)


def commands() -> dict[str, str]:
    """Name and first docstring sentence of each module here that can be run."""
    found = {}
    for path in sorted(HERE.glob("*.py")):
        source = path.read_text()
        if path.stem not in NOT_FOR_PEOPLE and '__name__ == "__main__"' in source:
            found[path.stem] = (ast.get_docstring(ast.parse(source)) or "").splitlines()[0]
    return found


if __name__ == "__main__":
    for name, sentence in commands().items():
        console.print(f"python -m jobs.{name:<14} {sentence}", soft_wrap=True)
