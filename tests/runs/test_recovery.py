"""A damaged checkpoint costs the steps since the one before it, and nothing is thrown away."""

import json
import shutil

import jax
import numpy as np
import optax
import pytest
from test_checkpoints import META, fill, make_state

from jfsed_jax.errors import InputError
from jfsed_jax.hosts import ALONE, Hosts
from jfsed_jax.method.parallel import make_mesh
from jfsed_jax.runs import checkpoints, recovery
from jfsed_jax.runs.checkpoints import DamagedCheckpoint
from jfsed_jax.runs.workdir import Workdir

# Arrays that are read beside one that fails end without the event loop that they were begun in.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OPTIMISER = optax.adam(0.1)


def state_of(step):
    return make_state(OPTIMISER).replace(step=np.int32(step))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Checkpoints of steps 2, 4 and 6, of which the first is the best."""
    folder = tmp_path_factory.mktemp("saved")
    with checkpoints.open_manager(Workdir(folder), training=True) as manager:
        for step, selection in ((2, 30.0), (4, 20.0), (6, 25.0)):
            checkpoints.save(manager, step, state_of(step), META | {"step": step}, selection)
    return folder


@pytest.fixture
def workdir(saved, tmp_path):
    shutil.copytree(saved, tmp_path / "run")
    return Workdir(tmp_path / "run")


def go_on(workdir, optimiser=OPTIMISER, save=None, hosts=ALONE):
    """What training does first, and a save of the step that is given: (state, step) or None."""
    target = jax.eval_shape(lambda: make_state(optimiser))

    with checkpoints.open_manager(workdir, training=True) as manager:

        def read(step):
            meta = checkpoints.read_meta(manager, step)
            assert meta["step"] == step
            return meta

        def restore(step, meta):
            assert meta["step"] == step
            return checkpoints.restore_state(manager, step, target, make_mesh(1), 2)

        found = recovery.restore_newest(manager, workdir, read, restore, hosts)
        if save is not None:
            checkpoints.save(manager, save, state_of(save), META | {"step": save}, 10.0)
    return found


def bytes_in(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGE = {
    "all files empty": lambda folder: fill(folder, b""),
    "no file": lambda folder: [shutil.rmtree(path) for path in folder.iterdir() if path.is_dir()],
    "meta cut": lambda folder: cut(folder / "meta/metadata"),
    "meta changed": lambda folder: (folder / "meta/metadata").write_text(
        (folder / "meta/metadata").read_text().replace("60.0", "20.0")
    ),
    "arrays cut": lambda folder: [cut(path) for path in (folder / "state/d").iterdir()],
    "arrays' names gone": lambda folder: (folder / "state/_METADATA").unlink(),
}


REASON = {
    "arrays cut": "cannot be read (Requested byte range ",
    "meta changed": "6/meta is not what was written",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_newest_good_one_is_taken_and_the_damaged_one_kept(workdir, caplog, damage):
    folder = workdir.checkpoints / "6"
    DAMAGE[damage](folder)
    before = bytes_in(folder)
    state, step = go_on(workdir, save=5)
    assert step == 4 and state.step == 4
    (text,) = [m for m in caplog.messages if "training goes on" in m]
    assert "checkpoints/6" in text and str(workdir.damaged / "6") in text
    assert "training goes on from step 4" in text and "\n" not in text
    assert REASON.get(damage, "") in text
    assert bytes_in(workdir.damaged / "6") == before
    # Orbax leaves out, without a word, a step before one that it knows.
    assert checkpoints.newest_on_disk(workdir) == 5
    assert go_on(workdir)[1] == 5


def test_two_of_one_step_are_both_kept(workdir):
    for expected in ("6", "6-2"):
        fill(workdir.checkpoints / "6", expected.encode())
        assert go_on(workdir, save=6)[1] == 4
        assert set(bytes_in(workdir.damaged / expected).values()) == {expected.encode()}
    assert go_on(workdir)[1] == 6


def test_what_is_undamaged_is_left_alone(workdir, caplog):
    assert go_on(workdir)[1] == 6
    fill(workdir.checkpoints / "4", b"")  # an earlier one is nothing to training
    assert go_on(workdir)[1] == 6
    assert not workdir.damaged.exists()
    assert not [message for message in caplog.messages if "training goes on" in message]


def test_where_none_is_good_all_stay(workdir):
    """They may be of another version, which moving them would not help."""
    fill(workdir.checkpoints, b"")
    with pytest.raises(DamagedCheckpoint, match="points/6 cannot be read .*; nor can any before"):
        go_on(workdir)
    assert not workdir.damaged.exists()
    assert sorted(path.name for path in workdir.checkpoints.iterdir()) == ["2", "4", "6"]


def test_another_optimiser_is_no_damage(workdir):
    with pytest.raises(DamagedCheckpoint, match="6/state holds opt_state of other shapes.*hand in"):
        go_on(workdir, optax.sgd(0.1))
    assert not workdir.damaged.exists()


@pytest.mark.parametrize("index", [0, 1])
def test_what_another_process_cannot_read_none_goes_on_from(workdir, index):
    """Both take the one before, and the first of them moves it away."""
    damage = json.dumps(["the checkpoint run/6 cannot be read", "take another"])
    # What the other says: of step 6 that reading went well, and the damage; of step 4 that all is
    # well, in reading and in restoring; then, that moving went well.
    answers = iter(["null", damage, *["null"] * 6])

    class Two(Hosts):
        def gather(self, text):
            other = text if "checkpoints" in text and text.startswith("[") else next(answers)
            return [text, other] if self.first else [other, text]

    assert go_on(workdir, hosts=Two(index, 2))[1] == 4
    assert (workdir.damaged / "6").exists() == (index == 0)


def test_a_refusal_is_no_damage(workdir):
    """As of other data, or of a format that is not known yet."""
    with (
        checkpoints.open_manager(workdir, training=True) as manager,
        pytest.raises(InputError, match="trained on other data"),
    ):

        def restore(step):
            raise InputError("trained on other data")

        recovery.restore_newest(manager, workdir, restore, lambda *_: None)
    assert not workdir.damaged.exists()


def test_a_folder_that_cannot_be_moved_is_named(workdir):
    fill(workdir.checkpoints / "6", b"")
    workdir.damaged.write_text("a file")
    with pytest.raises(InputError, match="checkpoints/6 cannot be moved to .*damaged/6: File exis"):
        go_on(workdir)


def test_a_run_without_checkpoints_begins(tmp_path):
    assert go_on(Workdir(tmp_path)) is None
