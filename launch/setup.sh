# Sourced by the launchers beside it: makes an environment and installs the project into it.
# POSIX sh, on Linux or macOS. Where `uv` is on the PATH it installs, and fetches a Python if none
# suits; otherwise pip does.
#
#   PYTHON=/path/to/python3.13   the interpreter to use (default: the first that runs of python3.13,
#                                python3.12, python3.11, python3.14, python3)
#   JFSED_CONSTRAINTS=FILE       the versions to install (default: launch/constraints/, those that
#                                were tested; nothing: the newest that setup.cfg allows)
#   JFSED_TORCH=1                also install a CPU build of PyTorch if one is on offer; without it
#                                the tests that compare with PyTorch are skipped
#
# The environment is .venv at the root of the project. Where that cannot be written to (the project
# is another user's, or on a read-only disk), it lies in the user's cache.
#
# What follows runs in the root of the project; $here is where the launcher was called.

# Many images forbid Python to keep what it compiled: each process would compile all of JAX anew.
unset PYTHONDONTWRITEBYTECODE

here=$(pwd)
root=$(unset CDPATH && cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
name=launch/$(basename -- "$0")
cd "$root" || exit 1
if [ -w "$root" ]; then
    home=$root
else
    home=${XDG_CACHE_HOME:-$HOME/.cache}/jfsed_jax/$(printf '%s' "$root" | cksum | cut -d' ' -f1)
fi
venv=$home/.venv

fail() {
    printf '%s: %s\n' "$name" "$1" >&2
    exit 1
}

# A relative path was meant from where the launcher was called; a command's name stays one.
case ${PYTHON:-} in
/*) ;;
*/*) PYTHON=$here/$PYTHON ;;
esac
case ${JFSED_CONSTRAINTS:-/} in
/*) ;;
*) JFSED_CONSTRAINTS=$here/$JFSED_CONSTRAINTS ;;
esac

has_uv() { uv --version >/dev/null 2>&1; }

# Prints the version of an interpreter, or nothing if it does not run (a shim may exist and fail).
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

suits() {
    case $(version_of "$1") in
    3.1[1-9] | 3.[2-9][0-9]) return 0 ;;
    *) return 1 ;;
    esac
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" && return 0
        found=$(version_of "$PYTHON")
        fail "needs Python 3.11 or later; PYTHON=$PYTHON is ${found:-not an interpreter that runs}."
    fi
    seen=
    for PYTHON in python3.13 python3.12 python3.11 python3.14 python3; do
        suits "$PYTHON" && return 0
        found=$(version_of "$PYTHON")
        [ -n "$found" ] && seen="$seen $PYTHON is $found."
    done
    if has_uv; then
        PYTHON=3.13
        echo "No Python 3.11 or later runs here: uv fetches $PYTHON."
        return 0
    fi
    fail "needs Python 3.11 or later.${seen:- No python3 runs here.} Install one, or uv, which brings its own; or name one: PYTHON=/path/to/python3.13 $name"
}

install() {
    if has_uv; then
        uv pip install --quiet --python "$venv/bin/python" "$@"
    else
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
    fi
}

make_venv() {
    if has_uv; then
        uv venv --quiet --seed --clear --python "$PYTHON" "$venv" ||
            fail "uv could not make $venv with Python $PYTHON (see above). Name another Python, 3.11 or later: PYTHON=/path/to/python3.13 $name"
    else
        "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
            fail "$PYTHON ($(version_of "$PYTHON")) comes without venv or pip; install them (on Debian and Ubuntu: apt install python3-venv), or uv, then run this again."
        "$PYTHON" -m venv --clear "$venv" || fail "could not make $venv with $PYTHON (see above)."
    fi
    printf '%s\n' "$venv" >"$venv/place"
}

# Whether the environment that is there can be used: it runs, has the version that was asked for, has
# what installs, and lies where it was made (the scripts of one that was moved name the old place).
venv_suits() {
    [ -e "$venv/pyvenv.cfg" ] && suits "$venv/bin/python" || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version_of "$PYTHON")" = "$(version_of "$venv/bin/python")" ] ||
        return 1
    has_uv || "$venv/bin/python" -m pip --version >/dev/null 2>&1 || return 1
    [ ! -e "$venv/place" ] || [ "$(cat "$venv/place")" = "$venv" ]
}

not_installed() {
    fail "the installation failed (see above); once that is mended, run this again. If a version of $constraints cannot be had here, JFSED_CONSTRAINTS= $name takes the newest that setup.cfg allows."
}

# set_up EXTRAS: the environment with the project and its extras, e.g. `set_up '[test]'`.
set_up() {
    [ -z "${JFSED_CONSTRAINTS:-}" ] || [ -r "$JFSED_CONSTRAINTS" ] ||
        fail "JFSED_CONSTRAINTS=$JFSED_CONSTRAINTS cannot be read."
    if ! venv_suits; then
        find_python
        make_venv
    fi
    version=$(version_of "$venv/bin/python")
    constraints=${JFSED_CONSTRAINTS-$root/launch/constraints/$version.txt}
    if [ -z "${JFSED_CONSTRAINTS-}" ] && [ ! -e "$constraints" ]; then
        echo "Python $version: the newest packages that setup.cfg allows, not versions that were tested."
        constraints=/dev/null
    fi

    # The second time nothing is installed, unless what would be installed changed.
    stamp=$venv/installed$1${JFSED_TORCH:+-torch}
    sources='setup.cfg pyproject.toml'
    [ "$home" = "$root" ] || sources="$sources jfsed_jax configs"
    # shellcheck disable=SC2086
    state="$root $(find $sources -type f ! -name '*.py[co]' -exec cksum {} + |
        cat - "$constraints" | cksum)"
    [ "$(cat "$stamp" 2>/dev/null)" = "$state" ] && return 0
    # What another launcher put here of other versions is not there any longer.
    for other in "$venv"/installed*; do
        [ "$(cat "$other" 2>/dev/null)" = "$state" ] || rm -f "$other"
    done
    echo "Installing jfsed_jax$1 into $venv: once, a minute or two ..."
    if [ "$home" = "$root" ]; then
        install --constraint "$constraints" --editable ".$1" || not_installed
    else
        # Building writes beside the sources, so it is done in a copy.
        copy=$venv/source
        # shellcheck disable=SC2086
        rm -rf "$copy" && mkdir "$copy" && cp -R README.md LICENSE $sources "$copy" &&
            chmod -R u+w "$copy" && install --constraint "$constraints" "$copy$1"
        failed=$?
        rm -rf "$copy"
        [ "$failed" = 0 ] || not_installed
    fi
    if [ -n "${JFSED_TORCH:-}" ]; then
        # '+cpu' builds are small and never on PyPI: this cannot fetch gigabytes of CUDA.
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            --constraint "$constraints" 'torch==2.13.0+cpu' 2>/dev/null ||
            echo "No CPU build of PyTorch on offer: the tests that compare with it are skipped."
    fi
    printf '%s\n' "$state" >"$stamp"
}

# set_up_accelerator PLATFORM EXTRA: jax's own extra for it, at the version of jax that is installed.
set_up_accelerator() {
    sees() { "$venv/bin/python" -c "import jax; jax.devices('$1')" >/dev/null 2>&1; }
    sees "$1" && return 0
    echo "Installing jax[$2] into $venv: once ..."
    installed=$("$venv/bin/python" -c 'import jax; print(jax.__version__)') || exit 1
    install "jax[$2]==$installed" || fail "jax[$2] could not be installed (see above)."
    sees "$1" || fail "jax finds no $1 on this machine; '$venv/bin/python -c \"import jax; jax.devices()\"' says more."
}
