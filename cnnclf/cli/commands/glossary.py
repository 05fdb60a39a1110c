"""`cnnclf glossary`: the words of the field, and what a run chose."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cnnclf.cli.completion import complete_run
from cnnclf.cli.declaring import argument, option
from cnnclf.cli.output import out
from cnnclf.config import option_name
from cnnclf.glossary import TERMS, Term, find_term

if TYPE_CHECKING:
    from cnnclf.reporting.run_files import SettingChoice

CONTEXT_SETTINGS = {"ignore_unknown_options": True}  # --stride is a term, too


def glossary_command(
    term: Annotated[
        list[str] | None,
        argument(
            "TERM",
            "A word or an option, such as stride or --weight-decay. [all]",
            complete=lambda: [term.name for term in TERMS],
        ),
    ] = None,
    *,
    run: Annotated[
        Path | None,
        option("--run RUN", "Show the values in this run, and why.", complete=complete_run),
    ] = None,
) -> None:
    """Explain words of the field in a few sentences, with the options that they belong to."""
    terms = TERMS if not term else (find_term(" ".join(term)),)
    choices = _read_choices(run)
    for number, each in enumerate(terms):
        if number:
            out.line()
        out.line(f"{each.name}: {each.text}")
        if choices is None and each.settings:
            out.line(f"  options: {', '.join(_list_options(each))}")
        for key in each.settings:
            choice = (choices or {}).get(key)
            if choice is not None:
                out.line(f"  {choice.option} {choice.value} ({choice.why})")
    out.json({"terms": [_describe(each, choices) for each in terms]})


def _list_options(term: Term) -> list[str]:
    return list(dict.fromkeys(map(option_name, term.settings)))


def _read_choices(run: Path | None) -> "dict[str, SettingChoice] | None":
    if run is None:
        return None
    from cnnclf.reporting.run_files import list_choices, read_run

    return {choice.key: choice for choice in list_choices(read_run(run).plan)}


def _describe(term: Term, choices: "dict[str, SettingChoice] | None") -> dict[str, object]:
    found = {key: choices[key] for key in term.settings if choices and key in choices}
    return {
        "term": term.name,
        "text": term.text,
        "aliases": term.aliases,
        "options": _list_options(term),
        "values": {key: {"value": each.value, "why": each.why} for key, each in found.items()},
    }
