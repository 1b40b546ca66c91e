"""Lists every text that a user can see: `file:line: role: text`, to be read from top to bottom.

    python -m tests.experiments.messages [FILE|FOLDER ...]

The role is the argument, call or statement that the text belongs to. `{name}` is filled in at run time.
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.commands import CHECKOUT

PACKAGES = ("musicvae", "preprocess", "cluster", "jobs")
SPEAKS = re.compile(r"\w*Error|_?print|_?say|tell|notice|warn\w*|Option|Argument|flag|Field|add_argument|add_row|Table")
"""Calls whose arguments are messages, also those of one word."""
IN_MESSAGES = {"problem", "expected", "found", "likely", "do", "help", "description", "epilog", "title", "panel"}
"""Arguments that are messages, also those of one word."""
SILENT = re.compile(r"compile|filterwarnings|(full)?match|getLogger|split|strftime|strptime|sub|TypeVar")
"""Calls whose arguments a user never sees."""
SEVERAL_WORDS = re.compile(r"[^\W\d_]{2,}\S* +\S*[^\W\d_]|\} [^\W\d_]{3,}|[^\W\d_]{2,}\S* \{")
ONE_WORD = re.compile(r"(?<![-\w])[^\W\d_]{2,}")
MARKUP = re.compile(
    r"<(script|style)\b.*?</\1>|\{#.*?#\}|\{%.*?%\}|<!--.*?-->"
    r"|</?[a-z!][^<>]*?(?:\b(?:title|aria-label|placeholder|alt)=\"(?P<label>[^\"]*)\"[^<>]*)?>",
    re.DOTALL | re.IGNORECASE,
)
SCRIPT = re.compile(r"//[^\n]*|/\*.*?\*/|\"((?:[^\"\\\n]|\\.)*)\"|`((?:[^`\\]|\\.)*)`|'((?:[^'\\\n]|\\.)*)'", re.DOTALL)


class Message(NamedTuple):
    line: int
    role: str
    text: str


def messages(path: Path) -> list[Message]:
    """The texts of one file, in its order."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        commands = re.findall(r"\w+", " ".join(re.findall(r"^ +run_command\((.*)\)$", source, re.MULTILINE)))
        listed = _of_python(ast.parse(source), "", False, frozenset(commands))
    else:
        listed = _of_script(source) if path.suffix == ".js" else _of_page(source)
    shown = [Message(line, role, " ".join(text.split())) for line, role, text in listed if text != "use strict"]
    return sorted(message for message in shown if ONE_WORD.search(re.sub(r"\{[^}]*\}", "", message.text)))


def _of_python(node: ast.AST, role: str, speaks: bool, commands: frozenset[str]) -> Iterator[Message]:
    """Walks a tree; `role` and `speaks` are those of the innermost call, argument or statement around the node."""
    children = [child for child in ast.iter_child_nodes(node) if child is not getattr(node, "returns", None)]
    match node:
        case ast.Module() | ast.FunctionDef():
            name = getattr(node, "name", "")
            if (name in commands or (commands and not name)) and (text := ast.get_docstring(node)):
                yield Message(node.body[0].lineno, f"docstring {name}".strip(), text)
        case ast.ClassDef() if {getattr(base, "id", "") for base in node.bases} & {"Settings", "BaseModel"}:
            for before, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(before, ast.AnnAssign) and isinstance(after, ast.Expr):
                    yield Message(before.lineno, f"setting {ast.unparse(before.target)}", _text(after.value))
        case ast.Expr(value=ast.Constant()):
            return  # a docstring
        case ast.Constant() | ast.JoinedStr():
            if SEVERAL_WORDS.search(text := _text(node)) or (speaks and ONE_WORD.search(text)):
                yield Message(node.lineno, role, text)
            return
        case ast.Subscript() if ast.unparse(node.value) != "Annotated":
            children = [node.value]  # shapes of arrays, keys
        case ast.Call():
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if SILENT.fullmatch(name):
                return
            role, speaks = name or role, bool(SPEAKS.fullmatch(name))
        case ast.keyword():
            role, speaks = node.arg or role, node.arg in IN_MESSAGES
        case ast.Assign() | ast.AnnAssign() | ast.Return():
            role, speaks = type(node).__name__.lower(), False
    for child in children:
        yield from _of_python(child, role, speaks, commands)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(map(_text, node.values))
    if isinstance(node, ast.FormattedValue):
        return f"{{{ast.unparse(node.value)}}}"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def _of_script(source: str) -> Iterator[Message]:
    for match in SCRIPT.finditer(source):
        if SEVERAL_WORDS.search(text := next((group for group in match.groups() if group), "")):
            yield Message(source.count("\n", 0, match.start()) + 1, "script", text)


def _of_page(source: str) -> Iterator[Message]:
    end = 0
    for match in MARKUP.finditer(f"{source}<end>"):
        text = re.sub(r"\{\{\s*(.*?)\s*\}\}", r"{\1}", source[end : match.start()])
        end = match.end()
        yield Message(source.count("\n", 0, match.start()) + 1, "page", text)
        yield Message(source.count("\n", 0, match.start()) + 1, "label", match["label"] or "")


def main(arguments: list[str]) -> None:
    """Prints the texts of files and folders, of the whole product where none is named."""
    roots = [Path(argument).resolve() for argument in arguments] or [CHECKOUT / name for name in PACKAGES]
    files = [path for root in roots for path in (sorted(root.rglob("*")) if root.is_dir() else [root])]
    for path in (path for path in files if path.suffix in (".py", ".js", ".jinja")):
        for line, role, text in messages(path):
            print(f"{path.relative_to(CHECKOUT)}:{line}: {role}: {text}")


if __name__ == "__main__":
    main(sys.argv[1:])
