"""Behind ``launch/mutation``: mutants of three rooms, each against the tests that concern it.

cosmic-ray makes the mutants and keeps the results in a session, which its own ``cr-report`` and
``cr-html`` read too. Here is which of them are run, and how: a process that has loaded JAX, pandas
and the like, but nothing of the project, is forked for each, in a copy of the sources.
"""

import argparse
import ast
import compileall
import contextlib
import difflib
import importlib
import itertools
import json
import os
import py_compile
import random
import re
import resource
import shutil
import signal
import sys
import time
import tomllib
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import cosmic_ray.commands
import cosmic_ray.modules
import pytest
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parents[1]
CONFIG = tomllib.loads((ROOT / "launch/mutation.toml").read_text(encoding="utf-8"))
ROOMS = ("method", "sed", "inference")
# What the tests and the package import, the slow ones of it.
SLOW_IMPORTS = ("scipy.signal", "pandas", "jax.numpy", "flax.linen", "optax", "orbax.checkpoint")
# A mutant's tests may take this many times what they take without it, and that many seconds more.
TIMES, SECONDS = 4, 60
UNKNOWN = 1200  # seconds, of a file whose time is not known yet
MEMORY = 12 * 2**30  # of addresses, of which JAX takes many that it does not use
TIMEOUT = "timeout"
# In the folder of a session: the results; the project as it was when it began; its copy, where
# mutants come and go; what each file of tests takes without one; what the last tests printed.
SESSION, SOURCES, TREE = "session.sqlite", "sources", "tree"
KNOWN, OUTPUT = "seconds.json", "output.txt"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("launch/mutation: stopped."))
    arguments = _arguments()
    folder = arguments.folder.absolute()
    if arguments.fresh:
        for name in (SOURCES, TREE):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in (SESSION, KNOWN):
            (folder / name).unlink(missing_ok=True)
    if not arguments.report:
        deadline = time.monotonic() + 60 * arguments.minutes
        _lay_out(folder, new_tests=arguments.again)
        with use_db(str(folder / SESSION)) as database:
            if arguments.again:
                items = [item for item, r in database.completed_work_items if not r.is_killed]
            else:
                chosen = _chosen(arguments)
                have = {item.job_id for item in database.work_items}
                database.add_work_items(item for item in chosen if item.job_id not in have)
                done = {job_id for job_id, _ in database.results}
                items = [item for item in chosen if item.job_id not in done]
            _run(folder, database, items, deadline)
    if not (folder / SESSION).is_file():
        sys.exit(f"launch/mutation: no session in {folder}; run it without --report first.")
    with use_db(str(folder / SESSION)) as database:
        _report(database)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="launch/mutation", description="docs/mutation.md explains.", allow_abbrev=False
    )
    parser.add_argument("--number", type=int, default=60, help="mutants of each room; default 60")
    parser.add_argument("--seed", type=int, default=0, help="which of them; default 0")
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=ROOMS)
    parser.add_argument("--minutes", type=float, default=60, help="begin none after; default 60")
    parser.add_argument(
        "--folder", type=Path, default=ROOT / "build/mutation", help="default build/mutation"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the session in the folder")
    parser.add_argument("--again", action="store_true", help="survivors, against today's tests")
    parser.add_argument("--report", action="store_true", help="print what there is, run nothing")
    return parser.parse_args()


# ---- which mutants


def _chosen(arguments: argparse.Namespace) -> list[WorkItem]:
    """The mutants of a seed, those of all rooms in turn.

    A place in the source is taken at random, then one of what can be done to it; a place comes
    again only when each has come. A larger number adds to what a smaller one takes.
    """
    ranked = []
    for room in arguments.rooms:
        places: dict[tuple, list[MutationSpec]] = {}
        for one in _mutants(room):
            place = (one.module_path, one.start_pos, one.end_pos)
            places.setdefault(place, []).append(one)
        draw = random.Random(f"{arguments.seed} {room}")
        taken = []
        for place in sorted(places):
            draw.shuffle(places[place])
            taken += [(turn, draw.random(), one) for turn, one in enumerate(places[place])]
        taken.sort(key=lambda each: each[:2])
        print(f"{room}: {len(taken)} mutants at {len(places)} places")
        possible = (one for _, _, one in taken if _mutated(one))
        for rank, mutation in enumerate(itertools.islice(possible, arguments.number)):
            ranked.append((rank, room, mutation))
    ranked.sort(key=lambda each: each[:2])
    return [WorkItem.single(_identity(mutation), mutation) for _, _, mutation in ranked]


def _identity(mutation: MutationSpec) -> str:
    row, column = mutation.start_pos
    what = f"{mutation.operator_name}:{mutation.occurrence}"
    return f"{mutation.module_path}:{row}:{column}:{what}"


def _mutants(room: str) -> Iterator[MutationSpec]:
    """All mutants of a room, without those that no test should have to notice."""
    modules = sorted(cosmic_ray.modules.find_modules([Path("jfsed_jax") / room]))
    with use_db(":memory:") as everything:
        cosmic_ray.commands.init(modules, everything, {})
        mutations = [item.mutations[0] for item in everything.work_items]
    left_out = {path: list(_left_out(path.read_text(encoding="utf-8"))) for path in modules}
    operators = {f"core/{name}" for name in CONFIG["operators"]}
    mutations.sort(key=lambda one: (one.module_path, one.operator_name, one.occurrence))
    for mutation in mutations:
        start, end = mutation.start_pos, mutation.end_pos
        spans = left_out[mutation.module_path]
        within = any(first <= start and end <= last for first, last in spans)
        if mutation.operator_name in operators and not within:
            yield mutation


def _mutated(mutation: MutationSpec) -> str | None:
    """The text of the module with the mutation, or None where that would be no Python."""
    operator = get_operator(mutation.operator_name)(**mutation.operator_args)
    text = mutation.module_path.read_text(encoding="utf-8")
    try:
        mutated = mutate_code(text, operator, mutation.occurrence)
        compile(mutated, str(mutation.module_path), "exec")
    # AttributeError: cosmic-ray 8.7 cannot replace a dotted name after `except`.
    except (AttributeError, SyntaxError):
        return None
    return mutated


def _left_out(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """From where to where (row, column) nothing is changed: types, errors, speed, guards."""
    rows = text.splitlines()
    for number, row in enumerate(rows, 1):
        for star in re.finditer(r"\*,", row):  # between parameters, taken for a product
            yield (number, star.start()), (number, star.end())
    for node in ast.walk(ast.parse(text)):
        expressions: list[ast.expr | None] = []
        lines: list[ast.stmt | ast.expr] = []
        match node:
            case ast.arg() | ast.AnnAssign():
                expressions = [node.annotation]
            case ast.Call() if re.match(r"warnings\.warn|logging|print", ast.unparse(node.func)):
                expressions = [node]
            # `zip` is told that its lengths agree, which they do; and what is shown meanwhile.
            case ast.keyword(arg="strict" | "progress"):
                expressions = [node.value]
            case ast.Raise():
                lines = [node]
            case ast.If() if "TYPE_CHECKING" in ast.unparse(node.test):
                lines = [node]
            case ast.FunctionDef() | ast.ClassDef():
                expressions = [getattr(node, "returns", None)]
                speed = r"\b(jit|cache|lru_cache|dataclass)\b"  # or what may be assigned to
                lines = [one for one in node.decorator_list if re.search(speed, ast.unparse(one))]
        for part in expressions:
            if part is not None and part.end_lineno and part.end_col_offset:
                ends = (part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)
                yield tuple((row, _column(rows[row - 1], byte)) for row, byte in ends)
        for line in lines:
            yield (line.lineno, 0), ((line.end_lineno or line.lineno) + 1, 0)


def _column(row: str, byte: int) -> int:
    """The place of a character of which Python's parser tells the byte."""
    return len(row.encode()[:byte].decode())


# ---- how they are run


def _lay_out(folder: Path, new_tests: bool) -> None:
    """The sources as they are now, if no session has begun; goes into a copy for the mutants."""
    parts = ("jfsed_jax", "configs", "tests", "examples")
    if not (folder / SOURCES).exists():
        new = folder / "new"
        shutil.rmtree(new, ignore_errors=True)
        for part in parts:
            shutil.copytree(ROOT / part, new / part, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy(ROOT / name, new)
        new.rename(folder / SOURCES)
    elif new_tests:
        shutil.rmtree(folder / SOURCES / "tests")
        shutil.copytree(ROOT / "tests", folder / SOURCES / "tests")
        (folder / KNOWN).unlink(missing_ok=True)
    shutil.rmtree(folder / TREE, ignore_errors=True)
    shutil.copytree(folder / SOURCES, folder / TREE)
    # As in a wheel: whatever is imported comes from the copy.
    (folder / TREE / "jfsed_jax/configs").symlink_to("../configs")
    # A mutant may be as long and as old as what it replaces: so what is compiled is told by a hash.
    compileall.compile_dir(
        folder / TREE, quiet=2, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH
    )
    os.chdir(folder / TREE)


def _run(folder: Path, database: WorkDB, items: Sequence[WorkItem], deadline: float) -> None:
    """Runs mutants until the deadline, each result saved as it comes."""
    print(f"{len(items)} to run; once interrupted, the same command goes on.", flush=True)
    tests = [_tests_of(item.mutations[0]) for item in items]
    _become_warm(folder)
    for done, (item, files) in enumerate(zip(items, tests, strict=True)):
        if time.monotonic() > deadline:
            print(f"The time is over: {len(items) - done} left; the same command goes on.")
            break
        (mutation,) = item.mutations
        limit = SECONDS + TIMES * sum(_without_mutant(folder, file) for file in files)
        text = mutation.module_path.read_text(encoding="utf-8")
        mutated = _mutated(mutation)
        assert mutated, item.job_id
        start = time.monotonic()
        mutation.module_path.write_text(mutated, encoding="utf-8")
        try:
            status = _tests_end(folder, files, limit)
        finally:
            mutation.module_path.write_text(text, encoding="utf-8")
        result = WorkResult(
            worker_outcome=WorkerOutcome.NORMAL,
            output=TIMEOUT if status is None else (folder / OUTPUT).read_text(errors="replace"),
            test_outcome=TestOutcome.SURVIVED if status == 0 else TestOutcome.KILLED,
            diff=_difference(text, mutated),
        )
        database.set_result(item.job_id, result)
        outcome = {None: "noticed (time)", 0: "SURVIVED"}.get(status, "noticed")
        took = f"{time.monotonic() - start:.0f} s"
        print(f"[{done + 1}/{len(items)}] {outcome}, {took}: {item.job_id}", flush=True)


def _tests_of(mutation: MutationSpec) -> tuple[str, ...]:
    module = str(mutation.module_path.relative_to("jfsed_jax").with_suffix(""))
    files = tuple(f"tests/{name}.py" for name in CONFIG["tests"].get(module, ()))
    missing = [file for file in files if not Path(file).is_file()]
    if missing or not files:
        found = f"{missing[0]}, which is not there," if missing else "no tests"
        sys.exit(f"launch/mutation: launch/mutation.toml names {found} for {module}: mend it.")
    return files


def _become_warm(folder: Path) -> None:
    """Loads what every test would load, and nothing that starts a thread of JAX."""
    sys.path.insert(0, str(folder / TREE))
    os.environ |= {
        "PYTHONPATH": str(folder / TREE),
        "JAX_PLATFORMS": "cpu",
        # Programs that a mutant leaves as they are need no compilation.
        "JAX_COMPILATION_CACHE_DIR": str(folder / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "0",
        "OPENBLAS_NUM_THREADS": "1",
        # For hypothesis: the same examples every time, none kept from another mutant, no deadline.
        "CI": "true",
    }
    for name in SLOW_IMPORTS:
        importlib.import_module(name)
    from jfsed_jax.sed.scoring import load_sed_eval

    load_sed_eval()
    for name in [name for name in sys.modules if name.partition(".")[0] == "jfsed_jax"]:
        del sys.modules[name]


def _without_mutant(folder: Path, file: str) -> float:
    """The seconds that a file of tests takes without a mutant, measured once; it must pass."""
    known = json.loads((folder / KNOWN).read_text()) if (folder / KNOWN).exists() else {}
    if file not in known:
        start = time.monotonic()
        if _tests_end(folder, [file], limit=UNKNOWN) != 0:
            print((folder / OUTPUT).read_text(errors="replace"))
            sys.exit(f"launch/mutation: {file} fails without a mutant; see above.")
        known[file] = time.monotonic() - start
        print(f"{file}: {known[file]:.1f} s without a mutant", flush=True)
        (folder / KNOWN).write_text(json.dumps(known, indent=2))
    return known[file]


class _Order:
    """A pytest plugin: the files in the order in which they were named."""

    def __init__(self, files: Sequence[str]) -> None:
        self.place = {Path(file).resolve(): place for place, file in enumerate(files)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.place[item.path])


def _tests_end(folder: Path, files: Sequence[str], limit: float) -> int | None:
    """pytest's status after the first failure, in a process of its own; None: not in time."""
    sys.stdout.flush()
    with warnings.catch_warnings(action="ignore"):  # of threads: none is JAX's
        child = os.fork()
    if child == 0:
        _test(folder, files)
    end = time.monotonic() + limit
    status = None
    try:
        while time.monotonic() < end:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            status = None
            time.sleep(0.05)
    finally:  # and whatever it has begun
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child, signal.SIGKILL)
        if status is None:
            os.waitpid(child, 0)
    return None if status is None else os.waitstatus_to_exitcode(status)


def _test(folder: Path, files: Sequence[str]) -> None:
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        output = os.open(folder / OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1)
        os.dup2(output, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        options = ["-x", "-p", "no:cacheprovider", f"--basetemp={folder / 'temporary'}"]
        code = int(pytest.main([*options, *files], plugins=[_Order(files)]))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# ---- what came of them


def _difference(old: str, new: str) -> str:
    """The lines that differ, as ``- old`` and ``+ new``."""
    lines = difflib.ndiff(old.splitlines(), new.splitlines())
    return "\n".join(line for line in lines if line[0] in "-+")


def _report(database: WorkDB) -> None:
    results = sorted(database.completed_work_items, key=lambda pair: pair[0].job_id)
    counts: dict[str, Counter] = {}
    for item, result in results:
        room = item.mutations[0].module_path.parts[1]
        counts.setdefault(room, Counter()).update(
            run=1, noticed=int(result.is_killed), by_time=int(result.output == TIMEOUT)
        )
    print("\n| room | mutants run | noticed | of them by time | survived | score |")
    print("|---|---|---|---|---|---|")
    for room, count in counts.items():
        run, noticed = count["run"], count["noticed"]
        share = f"{100 * noticed / run:.1f} %"
        print(f"| `{room}/` | {run} | {noticed} | {count['by_time']} | {run - noticed} | {share} |")
    for item, result in results:
        (mutation,) = item.mutations
        if not result.is_killed or result.output == TIMEOUT:
            late = "stopped for its time: " if result.is_killed else ""
            operator = mutation.operator_name.partition("/")[2]
            where = f"{mutation.module_path}:{mutation.start_pos[0]}"
            print(f"\n{late}{where} {mutation.definition_name or ''} ({operator})\n{result.diff}")


if __name__ == "__main__":
    main()
