"""Templates to pages: self-contained HTML, in which only the templates are markup.

Every value is escaped by Jinja; no value is marked as safe but the style sheet of this package. No
template knows a file format: each gets plain data (`listings`, `charts`, `heat_maps`,
`clip_pictures`) and writes it.
"""

from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe

import jfsed_jax
from jfsed_jax.atomic import write_whole
from jfsed_jax.report.charts import HEIGHT, KEY_HEIGHT, KEY_WIDTH, WIDTH
from jfsed_jax.report.listings import Bar, Code, Noted


@cache
def environment() -> jinja2.Environment:
    """The templates beside this module; a name that a page forgets to fill is an error."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("jfsed_jax.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = resources.files("jfsed_jax.report").joinpath("templates/style.css")
    made.globals.update(
        style=markupsafe.Markup(style.read_text(encoding="utf-8")),
        version=jfsed_jax.__version__,
        chart_size=(WIDTH, HEIGHT),
        key_size=(KEY_WIDTH, KEY_HEIGHT),
    )
    made.tests.update(
        bar=lambda cell: isinstance(cell, Bar),
        noted=lambda cell: isinstance(cell, Noted),
        code=lambda cell: isinstance(cell, Code),
    )
    return made


def render_template(name: str, **values: object) -> str:
    """The page that the template makes of the values."""
    return environment().get_template(name).render(**values)


def save_page(path: Path, text: str) -> Path:
    """Writes a page in one piece and makes its folder.

    Raises:
      InputError: it cannot be written; what was there stays.
    """
    # A file name may hold bytes that are no text.
    write_whole(path, text.encode("utf-8", errors="backslashreplace"))
    return path
