"""Links from words of a page to the glossary at its end."""

from html import escape
from typing import TYPE_CHECKING

from cnnclf.glossary import Term, find_setting, find_term

if TYPE_CHECKING:
    from markupsafe import Markup


class GlossaryLinks:
    """Makes links, and knows which terms were linked."""

    def __init__(self) -> None:
        self._used: dict[str, Term] = {}

    def __call__(self, name: str, shown: str = "") -> "Markup":
        """Return a link to a term of the glossary.

        Args:
            name: The term or another name of it.
            shown: The words of the link; empty for `name`.
        """
        return self._link(find_term(name), shown or name)

    def setting(self, key: str, shown: str) -> "Markup":
        """Return a link to the term that explains a setting, or the words alone."""
        from markupsafe import Markup

        term = find_setting(key)
        return Markup(escape(shown)) if term is None else self._link(term, shown)  # noqa: S704

    @property
    def terms(self) -> list[Term]:
        """The terms that were linked so far, in the order of the alphabet."""
        return sorted(self._used.values(), key=lambda term: term.name.lower())

    def _link(self, term: Term, shown: str) -> "Markup":
        from markupsafe import Markup

        self._used[term.name] = term
        return Markup(  # noqa: S704 - text is escaped here
            f'<a class="term" href="#word-{term.anchor}" title="{escape(term.text)}">'
            f"{escape(shown)}</a>"
        )
