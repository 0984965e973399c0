"""Templates to pages: self-contained HTML, in which only the templates are markup.

Every value is escaped by Jinja; no value is marked as safe but style sheets and scripts of this
package. No template knows a file format: each gets plain data (`listings`, `charts`, `heat_maps`,
`clip_pictures`) and writes it.
"""

import base64
import hashlib
from functools import cache
from importlib import resources
from pathlib import Path

import jinja2
import markupsafe

import jfsed_jax
from jfsed_jax.atomic import write_whole
from jfsed_jax.report.charts import HEIGHT, KEY_HEIGHT, KEY_WIDTH, WIDTH
from jfsed_jax.report.listings import Bar, Code, Link, Noted


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
    made.globals.update(
        style=own_file("style.css"),
        # Bars and cells are placed by style attributes, of which a hash would allow none.
        plain_policy=page_policy(script="'none'", style="'unsafe-inline'", media="'none'"),
        version=jfsed_jax.__version__,
        chart_size=(WIDTH, HEIGHT),
        key_size=(KEY_WIDTH, KEY_HEIGHT),
    )
    made.tests.update(
        bar=lambda cell: isinstance(cell, Bar),
        noted=lambda cell: isinstance(cell, Noted),
        code=lambda cell: isinstance(cell, Code),
        link=lambda cell: isinstance(cell, Link),
    )
    return made


def own_file(*names: str) -> markupsafe.Markup:
    """Style sheets or scripts beside the templates, one after the other, to stand in a page."""
    folder = resources.files("jfsed_jax.report").joinpath("templates")
    return markupsafe.Markup(
        "".join(folder.joinpath(name).read_text(encoding="utf-8") for name in names)
    )


def page_policy(*, script: str, style: str, media: str) -> str:
    """A content security policy: scripts and styles from these sources, pictures and sound in the
    page or where `media` says, and nothing else."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {script}",
            f"style-src {style}",
            "img-src data:",
            f"media-src {media}",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def hash_source(text: str) -> str:
    """The source of a policy that is the content of one element, to the letter."""
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


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
