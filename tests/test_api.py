"""The public names: where they live, what docs/api.md says of them, what importing them costs."""

import ast
import inspect
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

import jfsed_jax as jf

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
NAMES = sorted(jf._HOMES)


def blocks(page: str) -> list[tuple[str, str]]:
    """The Python of a page: what stands behind the word python, and the code."""
    return re.findall(r"^```python *(.*?)\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE)


def printed(code: str) -> list[str]:
    """What the comments behind calls of print say that they print."""
    return [
        line.rpartition("  # ")[2] for line in code.splitlines() if re.match(r"print.*  # ", line)
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_resolves_and_is_explained(name):
    value = getattr(jf, name)
    home = f"jfsed_jax.{jf._HOMES[name]}"
    assert (value.__name__ if inspect.ismodule(value) else value.__module__) == home
    assert value.__doc__ and value.__doc__.strip()


@pytest.mark.parametrize("name", NAMES)
def test_the_page_tells_what_a_name_takes(name):
    heading = re.search(rf"^### `jf\.{name}(\(.*\))?`$", PAGE, flags=re.MULTILINE)
    assert heading, f"docs/api.md has no heading for jf.{name}"
    value = getattr(jf, name)
    if inspect.isfunction(value):
        bare = inspect.signature(value).replace(return_annotation=inspect.Signature.empty)
        parameters = [p.replace(annotation=p.empty) for p in bare.parameters.values()]
        assert heading[1] == str(bare.replace(parameters=parameters)).replace("'", '"')
    elif heading[1]:
        fields = list(inspect.signature(value).parameters)
        assert [part.partition("=")[0] for part in heading[1][1:-1].split(", ")] == fields


def test_the_page_has_no_other_names():
    assert set(re.findall(r"\bjf\.([A-Za-z_]+)", PAGE)) == set(NAMES)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    tree = ast.parse((ROOT / "jfsed_jax" / "__init__.py").read_text(encoding="utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    found = {
        alias.asname: f"{node.module}.{alias.name}" for node in checked.body for alias in node.names
    }
    homes = {name: f"jfsed_jax.{home}" for name, home in jf._HOMES.items()}
    # Modules that are names themselves are imported from their room.
    assert found == {
        name: home if home.endswith(f".{name}") else f"{home}.{name}"
        for name, home in homes.items()
    }


def test_dir_lists_the_names_and_others_are_refused():
    assert set(dir(jf)) == {*NAMES, "__version__"} == set(jf.__all__)
    with pytest.raises(AttributeError, match="'jfsed_jax' has no attribute 'no_such_name'"):
        _ = jf.no_such_name


def loaded_by(code: str) -> set[str]:
    """The packages that are loaded after some code, in a process of its own."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_import_loads_nothing_heavy():
    heavy = {"jax", "jaxlib", "flax", "librosa", "numba", "pandas", "ml_collections", "numpy"}
    assert not loaded_by("import jfsed_jax as jf") & heavy


def test_scores_windows_and_tables_need_no_jax():
    names = "jf.score, jf.read_events, jf.write_events, jf.class_windows, jf.rule_options, jf.Event"
    names += ", jf.durations_by_class, jf.median_decoder, jf.load_config, jf.write_report"
    assert not loaded_by(f"import jfsed_jax as jf; {names}") & {"jax", "flax", "optax"}


def test_examples_run_as_the_page_says(tmp_path, monkeypatch, capsys):
    """From top to bottom, but for those that train; W is a run that was trained before."""
    monkeypatch.chdir(tmp_path)
    with tarfile.open(ROOT / "tests" / "runs" / "format_1" / "run.tar.xz") as archive:
        archive.extractall("W", filter="data")
    noise = np.random.default_rng(0).normal(0, 0.1, 44100)
    soundfile.write("recording.wav", noise, 44100)
    space: dict = {}
    kinds = []
    for kind, code in blocks(PAGE):
        kinds.append(kind)
        compiled = compile(code, "docs/api.md", "exec")
        if kind == "training":
            continue
        exec(compiled, space)
        lines = capsys.readouterr().out.splitlines()
        expected = printed(code)
        # Those of a run come first, and are what they are.
        assert lines[len(lines) - len(expected) :] == expected
    assert kinds == ["training", "", "run", "", ""]


EXTENDING = blocks((ROOT / "docs" / "extending.md").read_text(encoding="utf-8"))


def test_extending_quotes_the_examples_as_they_are():
    quoted = [(kind, code) for kind, code in EXTENDING if kind.startswith("examples/")]
    assert {kind for kind, _ in quoted} == {
        f"examples/{path.name}" for path in (ROOT / "examples").glob("[!_]*.py")
    } - {
        f"examples/{name}.py"
        for name in ("day_of_sound", "scale", "scale_start", "upper_bound", "coverage")
    }  # not handed in
    assert [code for kind, code in quoted if code not in (ROOT / kind).read_text()] == []


def test_what_extending_writes_itself_works():
    """The functions of its mine.py; of the calls that train, that their names exist."""
    mine: dict = {}
    for kind, code in EXTENDING:
        if kind == "mine.py":
            exec(compile(code, "mine.py", "exec"), mine)
        elif not kind:
            tree = ast.parse(code)
            used = {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
            assert {name.split(".")[1] for name in used if name.startswith("jf.")} <= set(NAMES)

    config = jf.load_config("pts:small")
    objective = mine["with_entropy"](config, 160)
    clip, frames = np.full((3, 2), 0.5, np.float32), np.full((3, 4, 2), 0.5, np.float32)
    output = jf.Output(clip, frames, np.zeros((3, 4, 5), np.float32))
    batch = {"clip_labels": clip, "frame_labels": frames}
    batch |= {"is_weak": np.float32([1, 0, 0]), "is_strong": np.float32([0, 1, 0])}
    terms = objective.terms(output, output, {"distillation": {}}, batch, 0)
    weight, value, clips = terms["student/entropy"]
    assert weight == 0.1 and clips.tolist() == [0, 0, 1]
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)
    assert {"teacher/weak", "student/strong"} < terms.keys()

    mel = np.random.default_rng(0).normal(size=(3, 4, 8)).astype(np.float32)
    hidden = mine["hidden_bands"](mine["jax"].random.key(0), batch | {"mel": mel}, bands=2, mix=0.0)
    changed = np.asarray(hidden["mel"]) != mel
    assert hidden["mel"].shape == mel.shape and changed.any((0, 1)).sum() == 2
    assert np.asarray(hidden["mel"])[changed].max() == mel.min()
