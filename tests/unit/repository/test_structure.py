"""README, CONTRIBUTING and docs name only what exists, `docs/structure.md` names every file, and files stay small."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.commands import CHECKOUT

PACKAGES = ("jobs", "preprocess", "cluster", "musicvae")
MAP = CHECKOUT / "docs" / "structure.md"
PAGES = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md"))]
MOST_FILES, MOST_LINES, MOST_MODULES = 215, 420, 16
MORE_MODULES = {"jobs": 24}
"""Folders that may hold more: the commands are one file each."""
MOST_IMPORTS = 0.077
"""Share of the product's lines. The aim is 0.07: lower this when files are joined, and never raise it."""
OURS = rf"(?:{'|'.join((*PACKAGES, 'tests', 'docs'))})"
IMPORT = re.compile(r"\s*(from [\w.]+ import |import [\w.]+( as \w+)?(,|\s*(#.*)?$))")
TESTS = "unit|integration|gpu|benchmarks|experiments|processes|support"
PATH = re.compile(rf"(?<![\w./-])(?:{OURS}|{TESTS})/[\w.*/-]*")
DOTTED = re.compile(rf"(?<![\w./-]){OURS}(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"`([\w-]+\.(?:py|md|sbatch))`")
NO_MODULES = {"jobs.KIND", "jobs.X"}


def product_files() -> list[Path]:
    """Without `__init__.py`."""
    files = (path for package in PACKAGES for path in (CHECKOUT / package).rglob("*.py"))
    return sorted(path for path in files if path.name != "__init__.py")


def is_there(path: str) -> bool:
    """Whether a path of a page exists: in the checkout or in tests/, with or without its suffix, or as a pattern."""
    pattern = path.rstrip("./-") + ("*" if path.endswith("-") else "")
    tries = (f"{root}{pattern}{suffix}" for root in ("", "tests/") for suffix in ("", ".*"))
    return any(any(CHECKOUT.glob(attempt)) for attempt in tries)


def names_something(dotted: str) -> bool:
    """Whether a dotted name is a module, or a name that a module defines at its top or imports on request."""
    parts = dotted.split(".")
    while parts:
        folder = CHECKOUT.joinpath(*parts)
        sources = [path for path in (folder.with_suffix(".py"), folder / "__init__.py") if path.is_file()]
        rest = dotted.split(".")[len(parts) :]
        if not rest and (sources or folder.is_dir()):
            return True
        if sources:
            return rest[0] in {*top_names(sources[0])}
        parts.pop()
    return False


def top_names(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text())):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.alias):
            yield node.asname or node.name


def stale_names(page: str) -> list[str]:
    """Paths, dotted modules and names of files on a page that do not exist."""
    paths = [found for found in PATH.findall(page) if not is_there(found)]
    dotted = [found for found in DOTTED.findall(page) if found not in NO_MODULES and not names_something(found)]
    every = {path.name for folder in (*PACKAGES, "tests", "docs") for path in (CHECKOUT / folder).rglob("*.*")}
    every |= {path.name for path in CHECKOUT.glob("*.md")}
    files = [found for found in FILE.findall(page) if found not in every]
    return sorted({*paths, *dotted, *files})


def mapped(page: str) -> list[str]:
    """Every file of the map, by its folder's heading and its row."""
    files, folder = [], ""
    for line in page.partition("## Every file")[2].splitlines():
        if heading := re.fullmatch(r"### (\S+)/", line):
            folder = heading[1]
        elif row := re.match(r"\| `(\S+\.py)` \| \S", line):
            files.append(f"{folder}/{row[1]}")
    return files


def test_what_readme_contributing_and_docs_name_exists():
    stale = {page.name: names for page in PAGES if (names := stale_names(page.read_text()))}
    assert stale == {}


def test_a_stale_name_is_seen():
    page = (
        "`musicvae/groove.py`, musicvae/groove/grid.py, `jobs.sampel`, `python -m jobs.sample`, `gird.py`, `grid.py`, "
        "see tests/unit/test_nothing.py and musicvae.no_such_name; musicvae.load, tests.support.commands.run_job"
    )
    expected = ["gird.py", "jobs.sampel", "musicvae.no_such_name", "musicvae/groove.py", "tests/unit/test_nothing.py"]
    assert stale_names(page) == expected


def test_every_product_file_stands_on_the_map_once():
    files = [path.relative_to(CHECKOUT).as_posix() for path in product_files()]
    assert sorted(mapped(MAP.read_text())) == files


def test_every_folder_of_the_tree_in_readme_and_every_package_is_there():
    block = re.search(r"## Where things are\n\n((?: {4}.*\n)+)", (CHECKOUT / "README.md").read_text())
    assert block, "README has no tree under 'Where things are'"
    folders, top = [], ""
    for line in block[1].splitlines():
        name = line.split()[0].rstrip("/")
        top = top if line.startswith(" " * 5) else name
        folders.append(name if top == name else f"{top}/{name}")
    packages = {path.parent.relative_to(CHECKOUT).as_posix() for path in product_files()}
    assert [folder for folder in folders if not (CHECKOUT / folder).is_dir()] == []
    assert packages - set(folders) == set()
    assert len(block[1].split()) <= 200


def test_files_and_folders_stay_small():
    files = product_files()
    lines = {path: len(path.read_text().splitlines()) for path in files}
    modules = {folder: len([path for path in files if path.parent == folder]) for folder in {p.parent for p in files}}
    assert len(files) <= MOST_FILES
    assert {str(path): count for path, count in lines.items() if count > MOST_LINES} == {}
    names = {folder.relative_to(CHECKOUT).as_posix(): count for folder, count in modules.items()}
    assert {name: n for name, n in names.items() if n > MORE_MODULES.get(name, MOST_MODULES)} == {}


def test_few_lines_are_imports():
    imports = total = 0
    for path in product_files():
        inside = False
        for line in path.read_text().splitlines():
            total += 1
            if inside or IMPORT.match(line):
                imports += 1
                inside = (inside or "(" in line) and ")" not in line
    assert imports / total <= MOST_IMPORTS, f"{imports} of {total} lines"
