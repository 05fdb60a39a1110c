"""The pages say what the program does: generated pages are fresh, links and names exist."""

import ast
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from cnnclf.cli.app import COMMANDS
from cnnclf.config import FinetuneConfig, TrainConfig, list_fields, option_name

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "cnnclf"
PAGES = sorted(path for path in ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))


def test_reference_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_every_command_and_setting_is_in_the_reference() -> None:
    commands = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    assert not [row[0] for row in COMMANDS if f"## cnnclf {row[0]}" not in commands]
    assert not [key for key in list_fields(TrainConfig) if f"`{option_name(key)}`" not in settings]
    finetune = (ROOT / "docs/reference/finetune-settings.md").read_text(encoding="utf-8")
    keys = list_fields(FinetuneConfig)
    assert not [key for key in keys if f"`{option_name(key)}`" not in finetune]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    assert not [link for link in links if not (page.parent / link).exists()]


def test_the_index_lists_every_decision() -> None:
    decisions = ROOT / "docs/decisions"
    index = (decisions / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in decisions.glob("0*.md") if f"({path.name})" not in index]


def test_the_readme_commands_are_one_line_each() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("first-command", "second-command"):
        found = re.search(rf"<!-- {name} -->\n```\n([^\n]+)\n```", readme)
        assert found is not None, name
        assert "python3 -m venv" in found[1]


def test_every_option_in_a_readme_example_exists() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    reference = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    settings = (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8")
    lines = [line for line in readme.splitlines() if line.startswith("cnnclf ")]
    used = {option for line in lines for option in re.findall(r"(?<= )--[a-z-]+", line)}
    assert used
    assert not [each for each in used if f"`{each}`" not in reference + settings]


OTHER_PROGRAMS = {"--force-reinstall", "--upgrade"}  # pip
OTHER_PROGRAMS |= {"--head", "--install", "--query-gpu", "--xla"}  # ray, apt, nvidia-smi, XLA
OTHER_PROGRAMS |= {"--logdir", "--backend-store-uri"}  # tensorboard, mlflow
TYPED_WRONGLY = {"--lr", "--no-"}  # in descriptions of what is explained


def test_every_option_that_a_message_names_exists() -> None:
    pages = (ROOT / "tests" / "golden").glob("help*.txt")
    option = r"(?<![\w-])--[a-z][a-z0-9-]+"
    known = {each for page in pages for each in re.findall(option, page.read_text("utf-8"))}
    named: dict[str, str] = {}
    for module in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                place = f"{module.name}:{node.lineno}"
                named |= dict.fromkeys(re.findall(option, node.value), place)
    unknown = named.keys() - known - OTHER_PROGRAMS - TYPED_WRONGLY
    assert {each: named[each] for each in unknown} == {}


# Modules: each has its place in ARCHITECTURE.md, and no page names one that is gone


def read_rooms() -> list[tuple[str, str]]:
    """Give room and module of each name in the table of rooms; a room of one file has its name."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    table = page.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    named: list[tuple[str, str]] = []
    for rooms, modules in re.findall(r"^\| (`.+?) \| .+? \| (.+) \|$", table, re.MULTILINE):
        for room in re.findall(r"`([\w/.]+)`", rooms):
            if room.endswith(".py"):
                named.append(("", room))
            else:
                named += [(room, f"{name}.py") for name in re.findall(r"`(\w+)`", modules)]
    return named


def test_architecture_names_every_module_once() -> None:
    named = [room + module for room, module in read_rooms()]
    modules = [
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if path.name not in {"__init__.py", "__main__.py"}
    ]
    assert sorted(set(modules) - set(named)) == []
    assert sorted(set(named) - set(modules)) == []
    assert len(named) == len(set(named))


@cache
def list_texts() -> list[tuple[str, str]]:
    """Give the pages and the docstrings of the package, with their places."""
    texts = [(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) for path in PAGES]
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                texts.append((path.relative_to(ROOT).as_posix(), ast.get_docstring(node) or ""))
    return texts


def test_every_file_that_a_page_or_docstring_names_exists() -> None:
    files = [f"/{path.relative_to(ROOT).as_posix()}" for path in ROOT.rglob("*.py")]
    gone = [
        f"{place}: {name}"
        for place, text in list_texts()
        for name in re.findall(r"(?<![\w/.-])(?:[\w-]+/)*\w+\.py\b", text)
        if "NAME" not in name and not any(file.endswith(f"/{name}") for file in files)
    ]
    assert not gone


def test_every_dotted_name_on_a_page_exists() -> None:
    names = {
        (place, name)
        for place, text in list_texts()
        for name in re.findall(r"\bcnnclf(?:\.[A-Za-z_]\w*)+", text)
    }
    assert names
    assert not [f"{place}: {name}" for place, name in names if not is_there(name)]


def is_there(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_what_architecture_says_to_touch_is_there() -> None:
    """In its last table: `TABLE` in `file.py`."""
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    named = re.findall(r"`(\w+)` in\s+`([\w/]+)\.py`", page.partition("\n## To add")[2])
    assert len(named) > 5
    for name, file in named:
        module = file.removesuffix("/__init__").replace("/", ".")
        assert is_there(f"cnnclf.{module}:{name}"), f"{name} in {file}.py"
