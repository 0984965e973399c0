"""A wheel holds the same files, whatever it is built from; the source archive is the repository."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("clone", "clone without symbolic links", "zip", "source archive")
# Git as it comes, whatever this machine's user has set.
PLAIN_GIT = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

pytestmark = pytest.mark.skipif(not shutil.which("git"), reason="git is not installed")


def call(*command: str | Path, cwd: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs a command that has to succeed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def git(*arguments: str | Path, cwd: Path, **environ: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    return call("git", *who, *arguments, cwd=cwd, **PLAIN_GIT, **environ).stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packaging")


@pytest.fixture(scope="module")
def repository(folder):
    """A repository with one commit: the project as it lies here, less what .gitignore names."""
    repository = folder / "repository.git"
    here = {"GIT_DIR": str(repository), "GIT_WORK_TREE": str(ROOT)}
    git("init", "--quiet", cwd=ROOT, **here)
    git("add", "--all", cwd=ROOT, **here)
    git("commit", "--quiet", "--message=all", cwd=ROOT, **here)
    return repository


@pytest.fixture(scope="module")
def files(repository):
    """The names of the files of the repository."""
    return set(git("ls-tree", "-r", "-z", "--name-only", "HEAD", cwd=repository).split("\0")[:-1])


@pytest.fixture(scope="module")
def clone(folder, repository):
    git("clone", "--quiet", repository, folder / "clone", cwd=folder)
    return folder / "clone"


@pytest.fixture(scope="module")
def source_archive(folder, clone):
    """The ``.tar.gz`` that a package index would hold."""
    build = "from setuptools import build_meta; build_meta.build_sdist('dist')"
    call(sys.executable, "-c", build, cwd=clone)
    (archive,) = (clone / "dist").iterdir()
    return archive


@pytest.fixture(scope="module")
def unpacked(folder, source_archive):
    """The folder into which the source archive unpacks."""
    shutil.unpack_archive(source_archive, folder / "unpacked", filter="data")
    (unpacked,) = (folder / "unpacked").iterdir()
    return unpacked


@pytest.fixture(scope="module")
def wheels(folder, repository, clone, unpacked):
    """A wheel from each of `SOURCES`."""
    without_links = folder / "without_links"
    git("-c", "core.symlinks=false", "clone", "--quiet", repository, without_links, cwd=folder)
    git("archive", "--format=zip", "--output", folder / "main.zip", "HEAD", cwd=repository)
    shutil.unpack_archive(folder / "main.zip", folder / "zip")
    wheels = {}
    for name, source in zip(SOURCES, (clone, without_links, folder / "zip", unpacked), strict=True):
        command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        target = folder / "wheels" / source.name
        call(sys.executable, *command, "--wheel-dir", target, ".", cwd=source)
        (wheels[name],) = target.iterdir()
    return wheels


@pytest.fixture(scope="module")
def installed(folder, wheels):
    """A folder into which the wheel from the zip is installed."""
    target = folder / "installed"
    command = ["-m", "pip", "install", "--quiet", "--no-deps", "--target", target]
    call(sys.executable, *command, wheels["zip"], cwd=folder)
    return target


@pytest.mark.parametrize("source", SOURCES)
def test_a_wheel_holds_the_package_with_its_configs_and_nothing_else(source, wheels, files):
    expected = {name for name in files if name.startswith("jfsed_jax/")}
    expected |= {f"jfsed_jax/{name}" for name in files if name.startswith("configs/")}
    assert {"jfsed_jax/configs/base.py", "jfsed_jax/configs/pts.py"} < expected
    with zipfile.ZipFile(wheels[source]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == expected


def test_the_source_archive_is_the_repository(source_archive, files):
    with tarfile.open(source_archive) as tar:
        members = [member for member in tar if member.isfile()]
    names = {member.name.partition("/")[2] for member in members}
    made = {name for name in names if name == "PKG-INFO" or ".egg-info/" in name}
    assert names == files | made
    launchers = {member.name.partition("/")[2]: member.mode for member in members}
    assert launchers["launch/test"] & 0o100  # it can be run


def test_sources_that_hide_an_installed_wheel_find_their_configs(unpacked, installed, tmp_path):
    """As `python` at the root of a clone imports them, after `pip install .`."""
    show = "import jfsed_jax.configs as c, jfsed_jax as j; print(j.__file__, j.configs.__file__)"
    # -I -S: without what is installed here, where an editable install would find the configs.
    code = f"import sys; sys.path[:0] = {[str(unpacked), str(installed)]}; {show}"
    done = call(sys.executable, "-I", "-S", "-c", code, cwd=tmp_path)
    assert done.stdout.split() == [
        str(unpacked / "jfsed_jax/__init__.py"),
        str(unpacked / "configs/__init__.py"),
    ]


def test_the_tests_of_the_source_archive_find_what_they_import(unpacked, installed):
    # -P: not the package that lies there, but the installed one.
    # Old packages warn of each other; that is not what is asked here.
    collect = ["-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", "-W", "default"]
    command = ["-P", *collect]
    call(sys.executable, *command, cwd=unpacked, PYTHONPATH=str(installed))


def test_an_installed_wheel_runs_away_from_the_repository(installed, tmp_path):
    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(installed)},
            capture_output=True,
            text=True,
        )

    done = run("-c", "import jfsed_jax.configs as c, jfsed_jax as j; print(j.__file__, c.__file__)")
    assert done.returncode == 0, done.stderr
    assert all(Path(file).is_relative_to(installed) for file in done.stdout.split())

    (tmp_path / "strong.tsv").write_text(
        "filename\tonset\toffset\tevent_label\na.wav\t0.5\t1.5\tDog\nb.wav\t2.0\t2.5\tDog\n"
    )
    done = run("-m", "jfsed_jax", "windows", "--strong", "strong.tsv")
    assert done.returncode == 0, done.stderr
    assert "Dog" in done.stdout

    # The config is found, in the package: what is missing is the data.
    train = ("-m", "jfsed_jax", "train", "--data", "nowhere", "--workdir", "run", "--config")
    done = run(*train, "configs/pts.py:tiny")
    assert done.returncode == 2
    assert "nowhere" in done.stderr
    assert "config file" not in done.stderr
    done = run(*train, "configs/unheard_of.py:tiny")
    assert done.returncode == 2
    assert "unheard_of" in done.stderr and "nowhere" not in done.stderr
