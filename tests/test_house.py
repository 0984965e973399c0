"""The rules of CONTRIBUTING.md: rooms, sizes, names, what an import of the package costs."""

import ast
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import jfsed_jax

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jfsed_jax"
MODULES = sorted(PACKAGE.rglob("*.py")) + sorted((ROOT / "configs").glob("*.py"))
MAX_LINES = 400
# One renderer after another, and nothing else imports them: one room.
LONG = {"datasets/demo.py"}
# `jfsed_jax.cli.main:main` is the command.
MODULES_NAMED_AS_FUNCTIONS = {"main"}
CLASSES_DEFINED_TWICE: set[str] = set()

WITHOUT_JAX = """
import importlib, pkgutil, sys

import jfsed_jax.report, jfsed_jax.runs.workdir, jfsed_jax.sed
for room in (jfsed_jax.report, jfsed_jax.sed):
    for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
        importlib.import_module(module.name)
loaded = {name.partition(".")[0] for name in sys.modules}
print(*loaded & {"jax", "jaxlib", "flax", "optax", "orbax"})
"""


def lines_of(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def definitions(kind: type | tuple[type, ...]) -> dict[str, list[str]]:
    """Public names defined at the top of a module, each with the modules that define it."""
    found = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, kind) and not node.name.startswith("_"):
                found[node.name].append(str(path.relative_to(ROOT)))
    return found


def lint(folder: Path) -> tuple[int, str]:
    """Exit status and output of the linter of imports on the package that lies in `folder`."""
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [str(command), "--no-cache", "--no-logo"], cwd=folder, capture_output=True, text=True
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture
def house(tmp_path):
    """A copy of the package as it is installed, with its configs, and the linter's contracts."""
    nothing_compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, tmp_path / "jfsed_jax", ignore=nothing_compiled)
    shutil.copytree(ROOT / "configs", tmp_path / "jfsed_jax/configs", ignore=nothing_compiled)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_imports_keep_the_contracts_as_installed(house):
    status, output = lint(house)
    assert status == 0, output


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        (
            "sed/events.py",
            "import jfsed_jax.method.losses",
            "sed.events -> jfsed_jax.method.losses",
        ),
        ("runs/workdir.py", "from jfsed_jax.cli import main", "workdir -> jfsed_jax.cli.main"),
        ("configs/base.py", "from jfsed_jax.sed import events", "configs.base -> jfsed_jax.sed"),
        ("sed/events.py", "def f():\n    import jax", "sed.events -> jax"),
        # Below, where JAX is allowed, and `sed.events` imports it.
        ("audio/reading.py", "import flax.linen", "audio.reading -> flax"),
        # A room without a place.
        ("attic/__init__.py", "", "- jfsed_jax.attic"),
    ],
)
def test_a_broken_contract_is_found(house, module, line, found):
    path = house / "jfsed_jax" / module
    path.parent.mkdir(exist_ok=True)
    if "flax" in line:
        with (house / "jfsed_jax/sed/events.py").open("a", encoding="utf-8") as file:
            file.write("\n\nfrom jfsed_jax.audio import reading\n")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n\n{line}\n")
    status, output = lint(house)
    assert status == 1
    assert found in output


def test_a_circle_within_a_room_is_found(house):
    for module, other in (("one", "two"), ("two", "one")):
        (house / f"jfsed_jax/sed/{module}.py").write_text(f"from jfsed_jax.sed import {other}\n")
    status, output = lint(house)
    assert status == 1
    assert re.search(r"No circle within a room\s+BROKEN", output)


def test_scores_reports_and_the_files_of_a_run_load_without_jax():
    # The linter follows the imports that are written; this follows those that happen.
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_JAX], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_importing_the_package_loads_nothing_heavy():
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import jfsed_jax"],
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {
        line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()
    }
    assert "jfsed_jax" in loaded
    assert not loaded & {"jax", "jaxlib", "flax", "librosa", "matplotlib", "numba", "pandas"}


def test_no_module_is_long():
    lines = {str(path.relative_to(PACKAGE.parent)): lines_of(path) for path in MODULES}
    long = {name: count for name, count in lines.items() if count > MAX_LINES}
    for name in LONG:
        long.pop(f"jfsed_jax/{name}")  # KeyError: it is long no more, so take it off the list
    assert not long, f"{long}"


def test_no_module_bears_the_name_of_a_public_function():
    functions = definitions((ast.FunctionDef, ast.AsyncFunctionDef))
    # What the package itself offers is an attribute of the package, as its rooms are; some of it
    # are modules.
    homes = jfsed_jax._HOMES.items()
    offered = {n: ["jfsed_jax/__init__.py"] for n, home in homes if not home.endswith(f".{n}")}
    # A config bears the name of its system: a command names it, no code does.
    modules = [path for path in MODULES if path.is_relative_to(PACKAGE)]
    names = {path.stem for path in modules} | {path.parent.name for path in modules}
    both = names & (functions.keys() | offered.keys()) - MODULES_NAMED_AS_FUNCTIONS
    found = {name: functions.get(name) or offered[name] for name in both}
    assert not found, f"{found}"


def test_no_class_has_the_name_of_another():
    twice = {name: where for name, where in definitions(ast.ClassDef).items() if len(where) > 1}
    for name in CLASSES_DEFINED_TWICE:
        twice.pop(name)
    assert not twice, f"{twice}"


def test_contributing_names_every_room():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rooms = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
    assert [room for room in rooms if f"`{room}/`" not in text] == []


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]), ids=lambda p: p.name
)
def test_links_to_files_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
