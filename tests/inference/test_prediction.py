"""Posteriors of stub models whose outputs are known: whose, at which frames, of which variables."""

import tracemalloc

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
import pytest

from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import Posteriors, clip_posteriors, make_posteriors, name_some
from jfsed_jax.method.models import Output
from jfsed_jax.method.system import Models


class Stub(nn.Module):
    """Frame t of T' has ``scale * (clip's first value) + t``, the clip its negative."""

    stride: int

    @nn.compact
    def __call__(self, mel, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        count = self.variable("batch_stats", "count", jnp.zeros, ())
        frames = mel.shape[1] // self.stride
        level = scale * mel[:, 0, 0] + 100 * count.value
        times = jnp.arange(frames, dtype=jnp.float32)
        posterior = jnp.broadcast_to((level[:, None] + times)[..., None], (len(mel), frames, 2))
        return Output(-jnp.tile(level[:, None], 2), posterior, posterior)


MODELS = Models(teacher=Stub(4), student=Stub(2))
VARIABLES = {
    "teacher": {"params": {"scale": 3.0}, "batch_stats": {"count": 0.0}},
    "student": {"params": {"scale": 1.0}, "batch_stats": {"count": 1.0}},
}


def clips(count, frames=8):
    """Clip b is b everywhere."""
    return np.broadcast_to(np.arange(count, dtype=np.float16)[:, None, None], (count, frames, 3))


def test_the_students_posteriors():
    found = make_posteriors(MODELS)(VARIABLES, clips(3))
    np.testing.assert_array_equal(found.clip[:, 0], [-100, -101, -102])
    np.testing.assert_array_equal(found.frames[1, :, 0], [101, 102, 103, 104])


def test_a_teachers_frame_lasts_over_the_students_that_it_covers():
    found = make_posteriors(MODELS, "teacher")(VARIABLES, clips(3))
    np.testing.assert_array_equal(found.clip[:, 1], [0, -3, -6])
    np.testing.assert_array_equal(found.frames[2, :, 0], [6, 6, 7, 7])  # repeated, not tiled


def test_frames_that_do_not_divide_take_the_teachers_frame_they_lie_in():
    models = Models(teacher=Stub(5), student=Stub(1))  # 2 and 11 frames of 11
    found = make_posteriors(models, "teacher")(VARIABLES, clips(1, frames=11))
    np.testing.assert_array_equal(found.frames[0, :, 0], [0] * 6 + [1] * 5)


def test_the_mean_is_of_both():
    mean = make_posteriors(MODELS, "mean")(VARIABLES, clips(3))
    np.testing.assert_array_equal(mean.clip[:, 0], [-50, -52, -54])
    np.testing.assert_array_equal(mean.frames[2, :, 1], [54, 54.5, 55.5, 56])


def test_a_mean_teacher_is_the_students_module_with_variables_of_its_own():
    found = make_posteriors(Models(None, Stub(2)), "teacher")(VARIABLES, clips(2))
    np.testing.assert_array_equal(found.frames[1, :, 0], [3, 4, 5, 6])


def test_another_model_is_refused():
    with pytest.raises(InputError, match="model 'both': expected one of student, teacher, mean"):
        make_posteriors(MODELS, "both")


@pytest.mark.parametrize("count", [1, 16, 35])
def test_clips_keep_their_order_and_padding_is_dropped(count):
    found = clip_posteriors(make_posteriors(MODELS), VARIABLES, list(clips(count)))
    assert found.clip.shape == (count, 2) and found.frames.shape == (count, 4, 2)
    np.testing.assert_array_equal(found.clip[:, 0], -100 - np.arange(count))
    np.testing.assert_array_equal(found.frames[:, 3, 1], 103 + np.arange(count))


def test_posteriors_are_in_memory_once_and_those_of_frames_where_they_are_wanted():
    """64 frames of 16 clips at a time are an eighth of what 128 clips have."""

    def posteriors(variables, mel):
        return Posteriors(jnp.asarray(mel[:, 0], jnp.float32), jnp.asarray(mel, jnp.float32))

    mels = np.random.default_rng(0).random((128, 64, 50), np.float32)
    whole = clip_posteriors(posteriors, {}, mels)  # also what is loaded once
    np.testing.assert_array_equal(whole.frames, mels)
    for frames, most in (True, 1.5), (False, 0.5):
        tracemalloc.start()
        found = clip_posteriors(posteriors, {}, mels, frames=frames)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        np.testing.assert_array_equal(found.clip, mels[:, 0])
        assert peak < most * mels.nbytes
        assert found.frames.shape == (128, 64 if frames else 0, 50)


def test_clips_and_weights_that_are_not_finite_are_told_apart():
    """Clips 3 and 20 of 35 are bad; posteriors of 5 and 34 are, whose log-mel is not."""
    mels = [np.full((4, 2), float(i)) for i in range(35)]
    mels[3][2, 1], mels[20] = np.nan, np.full((4, 2), np.inf)

    def posteriors(variables, mel):
        frames = np.array(mel, np.float32)
        clip = frames.max(1)
        clip[frames[:, 0, 0] == 5] = np.inf
        frames[frames[:, 0, 0] == 34, 3, 1] = np.nan
        return Posteriors(clip, frames)

    with pytest.raises(InputError) as refused:
        clip_posteriors(posteriors, {}, mels)
    heard, said = str(refused.value).split("; ")
    assert heard.startswith("2 of 35 clips have a log-mel that is not finite, clip 4, clip 21: ")
    assert said.startswith(
        "2 of 35 clips have posteriors that are not finite and a log-mel that is"
    )
    assert ", clip 6, clip 35: the model's weights" in said
    assert name_some([str(i) for i in range(12)]) == "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more"
    assert name_some(["a"] * 10).count("a") == 10 and "more" not in name_some(["a"] * 10)


@pytest.mark.parametrize(("tags", "clip"), [("teacher", -6), ("mean", -54), ("student", -102)])
def test_tags_beside_the_students_frames_may_be_anothers(tags, clip):
    found = make_posteriors(MODELS, "student", tags)(VARIABLES, clips(3))
    assert found.clip[2].tolist() == [clip, clip]
    np.testing.assert_array_equal(found.frames[1, :, 0], [101, 102, 103, 104])
    # Of another model than the student, they are its own.
    found = make_posteriors(MODELS, "teacher", tags)(VARIABLES, clips(3))
    np.testing.assert_array_equal(found.clip[:, 1], [0, -3, -6])


def test_another_models_tags_are_refused():
    with pytest.raises(InputError, match="tags 'both': expected one of student, teacher, mean"):
        make_posteriors(MODELS, "student", "both")
