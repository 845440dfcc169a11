"""What the project's style guide forbids, found in docstrings, comments and strings.

Run it on files or folders while writing:

    python tests/language.py src/napari_siren/io
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

# Verbs that docstrings do not begin with, and words that begin a sentence without its subject.
FIRST_WORDS = frozenset(
    ["Give", "Tell", "Say", "Have", "Let", "Take", "Of", "What", "Where", "Which", "Who", "That", "So", "As", "From"]
)
BANNED = (
    r"tells?|told|telling|taught|teach\w*|lessons?|pupils?|says?|said|saying|wish\w*|kin|alike"
    r"|in place of|in the mean|to be had|not to be|a hair|thereof|by which|of which|what of|as of"
)
_BANNED = re.compile(rf"\b({BANNED})\b", re.IGNORECASE)
_RELATIVE = re.compile(r"\b(that|which|what|where|who|whose|whom)\b", re.IGNORECASE)
_CODE = re.compile(r"`[^`]*`|^ *(>>>|\.\.\.) .*$", re.MULTILINE)
# What is quoted is another's.
_QUOTED = re.compile(r"“[^”]*”")


def findings(path: Path) -> Iterator[tuple[int, str]]:
    """Return (line, complaint) for each breach of the style guide in a Python file."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node, docstring in docstrings(tree):
        line = node.body[0].lineno if node.body else 1
        first = docstring.split(maxsplit=1)[0].strip(":.,")
        if first in FIRST_WORDS:
            yield line, f"the docstring begins with {first!r}"
        lines = docstring.splitlines()
        for number, (name, description) in enumerate(pairwise(lines), start=1):
            if name[:1].isalnum() and re.match(r"\s+(Of|As of|As in) ", description):
                yield line + number, f"a description without a subject: {description.strip()!r}"
    for line, prose in texts(text, tree):
        for number, part in enumerate(_QUOTED.sub("", _CODE.sub("", prose)).splitlines()):
            for match in _BANNED.finditer(part):
                yield line + number, f"{match[0]!r} in {part.strip()[:90]!r}"


def docstrings(tree: ast.Module) -> Iterator[tuple[ast.Module | ast.ClassDef | ast.FunctionDef, str]]:
    """Return every node that has a docstring, with it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            yield node, text


def relative(docstring: str) -> bool:
    """Return whether the first sentence has a relative clause."""
    sentence = re.split(r"(?<=[.:])\s", _CODE.sub("", docstring), maxsplit=1)[0]
    return bool(_RELATIVE.search(sentence))


def texts(text: str, tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Return (line, text) of all comments, and of all strings with a space in them, docstrings among these."""
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.lineno, node.value


def python_files(*places: str) -> list[Path]:
    """Return the Python files of files and folders, sorted."""
    found = [[Path(p)] if Path(p).is_file() else sorted(Path(p).rglob("*.py")) for p in places]
    return [path for paths in found for path in paths]


def main(places: list[str]) -> None:
    """Print every breach, and the share of first sentences with a relative clause."""
    files = python_files(*places)
    for path in files:
        for line, complaint in findings(path):
            print(f"{path}:{line}: {complaint}")
    firsts = [(path, node, text) for path in files for node, text in docstrings(ast.parse(path.read_text()))]
    clauses = [entry for entry in firsts if relative(entry[2])]
    for path, node, text in clauses:
        line = node.body[0].lineno if node.body else 1
        print(f"{path}:{line}: relative clause: {text.splitlines()[0]}")
    share = len(clauses) / max(1, len(firsts))
    print(f"{len(clauses)} of {len(firsts)} first sentences have a relative clause, {share:.0%}")


if __name__ == "__main__":
    main(sys.argv[1:])
