"""User-facing text uses the field's words: the table in CONTRIBUTING.md, and American spelling."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = [
    *sorted(ROOT.glob("*.md")),
    *(
        path
        for place in ("benchmarks", "cnnclf", "docs", "sample_data")
        for path in sorted((ROOT / place).rglob("*"))
        if path.suffix in {".md", ".py"}
    ),
]
# Phrases in which a banned word has its proper meaning.
FINE = ("told apart", "figures behind", "table behind", "behind transparent", "color behind the")
# Names that other programs give to columns and arrays, which importers recognize.
FOREIGN = {
    ("cnnclf/importers/formats/npz.py", "picture"),
    ("cnnclf/importers/tables/table_columns.py", "picture"),
    ("cnnclf/importers/layouts/split_words.py", "picture"),
    ("cnnclf/importers/layouts/split_words.py", "pictures"),
}


def banned_words() -> dict[str, str]:
    """Read the table of CONTRIBUTING.md: from each phrase on the left to what to write."""
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = page.partition("\n## Words\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| (.+?) \|$", section, flags=re.MULTILINE)
    return {
        phrase: better
        for phrases, better in rows
        if phrases != "instead of"
        for phrase in phrases.split(", ")
    }


def pattern_of(phrase: str) -> str:
    return r"\s+".join(re.escape(word).replace(r"\*", r"\w*") for word in phrase.split())


WORDS = banned_words()
BANNED = re.compile(rf"\b(?:{'|'.join(map(pattern_of, WORDS))})\b", re.IGNORECASE)


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Give line and text of a page, or of the strings, docstrings and comments of a module."""
    content = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        if path.name == "CONTRIBUTING.md":
            content = re.sub(r"^\| .* \|$", "", content, flags=re.MULTILINE)
        yield 1, content
        return
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.lineno, node.value
    for token in tokenize.generate_tokens(io.StringIO(content).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def find_banned(path: Path) -> list[str]:
    found = []
    for line, text in texts(path):
        blanked = re.sub("|".join(FINE), lambda fine: "." * len(fine[0]), text)
        for match in BANNED.finditer(blanked):
            if (path.relative_to(ROOT).as_posix(), match[0]) in FOREIGN:
                continue
            place = line + text.count("\n", 0, match.start())
            found.append(f"{path.relative_to(ROOT)}:{place}: {match[0]!r} -> {better(match[0])}")
    return found


def better(word: str) -> str:
    return next(
        WORDS[phrase]
        for phrase in WORDS
        if re.fullmatch(pattern_of(phrase), word, flags=re.IGNORECASE)
    )


def test_text_uses_the_words_of_the_field() -> None:
    found = [line for path in FILES for line in find_banned(path)]
    assert not found, "\n".join(found)


def test_a_space_stands_before_percent() -> None:
    """As in 95 %, also in figures; other programs' notation, as in a title, is in docstrings."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.value!r}"
        for path in sorted((ROOT / "cnnclf").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.search(r"[.\d]\d?%(?!\w)", node.value) and "CIFAR-10 in" not in node.value
    ]
    assert not found, "\n".join(found)


def test_a_banned_word_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a string, a docstring, a comment and over a line break, but not in a name."""
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    module = tmp_path / "module.py"
    module.write_text(
        '"""Goes\n    on after Ctrl-C; told apart by name."""\n'
        "picture = f'{1} pictures'  # colours\n",
        encoding="utf-8",
    )
    found = [each.partition(": ")[2] for each in find_banned(module)]
    assert found == [
        "'Goes\\n    on' -> continue",
        "'pictures' -> image",
        "'colours' -> American spelling",
    ]
