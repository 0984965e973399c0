# Sourced by the launchers beside it: makes .venv at the root of the project and installs into it.
# POSIX sh, on Linux or macOS.
#
#   PYTHON=/path/to/python3.12   the interpreter to use (default: the first that runs of python3.12,
#                                python3.11, python3)
#   JFSED_TORCH=1                also install a CPU build of PyTorch if one is on offer; without it
#                                the tests that compare with PyTorch are skipped

root=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd) || exit 1
cd "$root" || exit 1
venv=$root/.venv

fail() {
    printf '%s: %s\n' "launch/$(basename -- "$0")" "$1" >&2
    exit 1
}

# Prints the version of an interpreter, or nothing if it does not run (a shim may exist and fail).
version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

suits() {
    case $(version_of "$1") in
    3.11 | 3.12) return 0 ;;
    *) return 1 ;;
    esac
}

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" && return 0
        found=$(version_of "$PYTHON")
        fail "needs Python 3.11 or 3.12; PYTHON=$PYTHON is ${found:-not an interpreter that runs}."
    fi
    seen=
    for PYTHON in python3.12 python3.11 python3; do
        suits "$PYTHON" && return 0
        found=$(version_of "$PYTHON")
        [ -n "$found" ] && seen="$seen $PYTHON is $found."
    done
    fail "needs Python 3.11 or 3.12.${seen:- No python3 runs here.} Install one, or name it: PYTHON=/path/to/python3.12 launch/$(basename -- "$0")"
}

# set_up EXTRAS: `.venv` with the project (editable) and its extras, e.g. `set_up '[test]'`.
set_up() {
    if ! suits "$venv/bin/python"; then
        find_python
        "$PYTHON" -c 'import venv, ensurepip' 2>/dev/null ||
            fail "$PYTHON ($(version_of "$PYTHON")) comes without venv or pip; install them (on Debian and Ubuntu: apt install python3-venv), then run this again."
        "$PYTHON" -m venv --clear "$venv" || fail "could not make $venv with $PYTHON."
    fi
    # The second time nothing is installed, unless the package's metadata changed.
    stamp=$venv/installed$1${JFSED_TORCH:+-torch}
    metadata=$(cat setup.cfg pyproject.toml | cksum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$root $metadata" ] && return 0
    echo "Installing jfsed_jax$1 into .venv: once, a minute or two ..."
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -e ".$1" ||
        fail "the installation failed (see above); once that is mended, run this again."
    if [ -n "${JFSED_TORCH:-}" ]; then
        # '+cpu' builds are small and never on PyPI: this cannot fetch gigabytes of CUDA. It asks
        # for setuptools too, and a newer one would break sed_eval (setup.cfg says why).
        "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
            'torch==2.13.0+cpu' 'setuptools<81' 2>/dev/null ||
            echo "No CPU build of PyTorch on offer: the tests that compare with it are skipped."
    fi
    printf '%s\n' "$root $metadata" >"$stamp"
}

# set_up_accelerator PLATFORM EXTRA: jax's own extra for it, at the version of jax that is installed.
set_up_accelerator() {
    sees() { "$venv/bin/python" -c "import jax; jax.devices('$1')" >/dev/null 2>&1; }
    sees "$1" && return 0
    echo "Installing jax[$2] into .venv: once ..."
    version=$("$venv/bin/python" -c 'import jax; print(jax.__version__)') || exit 1
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check "jax[$2]==$version" ||
        fail "jax[$2] could not be installed (see above)."
    sees "$1" || fail "jax finds no $1 on this machine; '$venv/bin/python -c \"import jax; jax.devices()\"' says more."
}
