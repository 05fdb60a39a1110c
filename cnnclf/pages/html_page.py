"""Renders pages that need no other file and no network, from the templates of a room."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cnnclf

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from PIL import Image

_HERE: Final = Path(__file__).parent
_MAX_TEXT: Final = 60  # characters of a label or path that are shown


def render_page(template: Path, **values: object) -> str:
    """Render a template; it extends `frame.html`, and every value is escaped.

    Args:
        template: Its file; templates beside it can be included.
        **values: Names that the template uses.

    Returns:
        HTML without any reference to other files.
    """
    style = (_HERE / "page.css").read_text(encoding="utf-8")
    page = _environment(template.parent).get_template(template.name)
    return page.render(style=style, version=cnnclf.__version__, **values)


def show(text: object) -> str:
    """Show what would not be visible or turn the reading direction, as escapes."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in str(text))


def shorten(text: object, limit: int = _MAX_TEXT) -> str:
    """Cut a long text in the middle, so that beginning and end are seen."""
    shown = show(text)
    if len(shown) <= limit:
        return shown
    return f"{shown[: limit // 2]}…{shown[-(limit - limit // 2 - 1) :]}"


def isolate_parts(path: object, limit: int = _MAX_TEXT) -> "Markup":
    """Shorten a path whose parts stay in order, also if they are read from right to left."""
    from markupsafe import Markup

    part = Markup("<bdi>{}</bdi>")
    return Markup("/").join(part.format(each) for each in shorten(path, limit).split("/"))


def as_data(image: "Image.Image", *, lossless: bool = False) -> str:
    """Return an image as a data URI: JPEG, or PNG where edges of pixels matter."""
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.save(buffer, "JPEG", quality=80)
    kind = "png" if lossless else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


@cache
def _environment(directory: Path) -> "Environment":
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([directory, _HERE]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "show": show,
        "shorten": shorten,
        "parts": isolate_parts,
        "number": lambda value: "-" if value is None else f"{value:,}",
        "figure": lambda value: "-" if value is None else f"{value:.4f}",
        "percent": lambda value: "-" if value is None else f"{100 * value:.1f}\u00a0%",
    }
    return environment
