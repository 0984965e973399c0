"""Variables and log-mel to posteriors: ``posteriors(variables, mel)``, and many clips at a time.

Axis letters: ``B`` clips, ``T`` frames, ``T'`` frames of the student, ``F`` mel bands, ``C``
classes.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jfsed_jax.errors import InputError
from jfsed_jax.method.parallel import ONE_BATCH, make_mesh, own_rows_of_batch
from jfsed_jax.method.state import Variables
from jfsed_jax.method.system import Models
from jfsed_jax.progress import progress_bar

MODELS = ("student", "teacher", "mean")
_BATCH = 16
Item = TypeVar("Item")


class ClipMels(Protocol):
    """B log-mel clips <float>[T, F]: a list, or anything that reads them one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> np.ndarray: ...


class Posteriors(NamedTuple):
    """clip: <float32>[B, C]; frames: <float32>[B, T', C], T' frames of the student."""

    clip: np.ndarray
    frames: np.ndarray


PosteriorsOf = Callable[[Variables, jax.Array], Posteriors]


def check_asked_for(models: Models, **asked: str) -> None:
    """Refuses what is none of `MODELS`, and a teacher where there is none.

    Args:
      models: of a system.
      asked: whose outputs are wanted, by the name of the option that says so.
    """
    for name, chosen in asked.items():
        if chosen not in MODELS:
            raise InputError(f"{name} {chosen!r}: expected one of {', '.join(MODELS)}")
        if models.alone and chosen != "student":
            raise InputError(
                f"{name} {chosen!r}: this system has no teacher, its student learns alone; "
                "expected student"
            )


def make_posteriors(models: Models, model: str = "student", tags: str = "student") -> PosteriorsOf:
    """A jitted ``(variables, mel <float>[B, T, F]) -> Posteriors``.

    Args:
      models: teacher and student, without a mapped axis.
      model: whose outputs: ``student``, ``teacher``, or the ``mean`` of both. Frames are those of
        the student: a teacher's frame is repeated over the frames it covers.
      tags: whose clip posteriors stand beside the student's frames, of the same three; where
        `model` is another, they are its own.

    The variables are ``{"teacher": V, "student": V}`` with V of `state.model_variables`.

    Raises:
      InputError: no such model, or there is no teacher.
    """
    check_asked_for(models, model=model, tags=tags)
    modules = models.named()
    members = {"student": ("student",), "teacher": ("teacher",), "mean": ("student", "teacher")}
    frames_of = members[model]
    clip_of = members[tags] if model == "student" else frames_of

    @jax.jit
    def posteriors(variables: Variables, mel: jax.Array) -> Posteriors:
        mel = mel.astype(jnp.float32)
        student = jax.eval_shape(modules["student"].apply, variables["student"], mel)
        frames = student.frames.shape[1]
        clips, covered = {}, {}
        for name in dict.fromkeys(frames_of + clip_of):
            output: Any = modules[name].apply(variables[name], mel)
            clips[name] = output.clip
            # Frame t of the student's T' lies in frame t T'' // T' of a teacher with T''.
            own = output.frames.shape[1]
            covered[name] = output.frames[:, np.arange(frames) * own // frames]
        return Posteriors(_mean(clips, clip_of), _mean(covered, frames_of))

    return posteriors


def _mean(outputs, names):
    """One model's output, or the mean of two."""
    chosen = [outputs[name] for name in names]
    return chosen[0] if len(chosen) == 1 else (chosen[0] + chosen[1]) / 2


def clip_posteriors(
    posteriors: PosteriorsOf,
    variables: Variables,
    mels: ClipMels,
    *,
    frames: bool = True,
    progress: bool = False,
) -> Posteriors:
    """Posteriors of B clips, a fixed number at a time (the last batch is padded).

    All devices share each batch, those of several processes too: each process calls this with the
    same clips, reads those of its own devices and has the posteriors of all.

    Args:
      posteriors: of `make_posteriors`.
      variables: of both models.
      mels: B arrays <float>[T, F]; read one by one. Where they have ``filenames``, errors name
        their clips by them.
      frames: keep the frame posteriors; otherwise they are <float32>[B, 0, C].
      progress: show a bar.

    Raises:
      InputError: posteriors of a clip are not finite.
    """
    mesh = make_mesh()
    size = _batch_size(mesh)
    run = _on_mesh(posteriors, variables, mesh)
    rows = own_rows_of_batch(mesh, size)
    finite = np.ones(len(mels), bool)
    whole: list[np.ndarray] = []  # filled batch by batch, so that nothing is there twice

    def finish(number, begun):
        output = jax.device_get(begun)
        own = slice(number * size, min((number + 1) * size, len(mels)))
        count = own.stop - own.start
        finite[own] = _finite(output)[:count]
        parts = output.clip, output.frames if frames else output.frames[:, :0]
        if not whole:
            whole.extend(np.empty((len(mels), *part.shape[1:]), part.dtype) for part in parts)
        for array, part in zip(whole, parts, strict=True):
            array[own] = part[:count]

    starts = range(0, len(mels), size)
    before = None
    with progress_bar(
        total=len(starts), desc="posteriors", unit="batch", disable=not progress
    ) as bar:
        for number, first in enumerate(starts):
            own = [np.asarray(mels[min(first + row, len(mels) - 1)]) for row in rows]
            begun = _everywhere(run(np.stack(own)), mesh)
            if before:  # while the devices work on the next one
                finish(*before)
            before = number, begun
            bar.update()
        if before:
            finish(*before)
    _check_finite(finite, mels)
    return Posteriors(*whole)


def batches(
    posteriors: PosteriorsOf,
    variables: Variables,
    items: Iterable[Item],
    mel_of: Callable[[Item], np.ndarray | None],
) -> Iterator[tuple[Item, Posteriors | None]]:
    """Items with the posteriors of their clips, in order; a fixed number of clips at a time.

    All devices of this process share each batch; the next one is filled while they work.

    Args:
      posteriors: of `make_posteriors`.
      variables: of both models.
      items: read as they are needed.
      mel_of: the log-mel <float>[T, F] of an item's clip, or None: it has none.

    Yields:
      Each item with clip <float32>[C] and frames <float32>[T', C], or None.
    """
    mesh = make_mesh(jax.local_devices())
    run = _on_mesh(posteriors, variables, mesh)
    size = _batch_size(mesh)

    def begin(mels):
        if not mels:
            return None
        return run(np.stack(mels + [mels[-1]] * (size - len(mels))))

    def finish(held, begun):
        output = jax.device_get(begun)
        i = 0
        for item, has_clip in held:
            yield item, Posteriors(output.clip[i], output.frames[i]) if has_clip else None
            i += has_clip

    held, mels, before = [], [], None
    for item in items:
        mel = mel_of(item)
        held.append((item, mel is not None))
        if mel is not None:
            mels.append(np.asarray(mel))
        if len(mels) == size:
            begun = held, begin(mels)
            if before:
                yield from finish(*before)
            held, mels, before = [], [], begun
    if before:
        yield from finish(*before)
    yield from finish(held, begin(mels))


def _on_mesh(
    posteriors: PosteriorsOf, variables: Variables, mesh: Mesh
) -> Callable[[np.ndarray], Posteriors]:
    """``run(mel)``: posteriors of a batch whose clips on this process's devices are `mel`."""
    everywhere, shared = (NamedSharding(mesh, spec) for spec in (PartitionSpec(), ONE_BATCH))
    variables = jax.device_put(variables, everywhere)

    def run(mel: np.ndarray) -> Posteriors:
        return posteriors(variables, jax.make_array_from_process_local_data(shared, mel))

    return run


@partial(jax.jit, static_argnames="mesh")
def _everywhere(output: Posteriors, mesh: Mesh) -> Posteriors:
    """On all devices, so that every process has what clips are scored by."""
    return jax.lax.with_sharding_constraint(output, NamedSharding(mesh, PartitionSpec()))


def _batch_size(mesh: Mesh) -> int:
    """Clips of a batch: as many as all devices can share equally, `_BATCH` or a few more."""
    return -(-_BATCH // mesh.size) * mesh.size


def _finite(output: Posteriors) -> np.ndarray:
    """<bool>[B]: whether all posteriors of a clip are."""
    return np.isfinite(output.clip).all(1) & np.isfinite(output.frames).all((1, 2))


def _check_finite(finite: np.ndarray, mels: ClipMels) -> None:
    """Refuses posteriors that are not `finite`; names the clips and whose fault it is."""
    bad = np.flatnonzero(~finite).tolist()
    if not bad:
        return
    heard = [i for i in bad if not np.isfinite(mels[i]).all()]
    names = getattr(mels, "filenames", [f"clip {i + 1}" for i in range(len(mels))])
    found = []
    if heard:
        found.append(
            f"{len(heard)} of {len(mels)} clips have a log-mel that is not finite, "
            f"{name_some([names[i] for i in heard])}: make their features anew, or leave them out"
        )
    if said := [i for i in bad if i not in heard]:
        found.append(
            f"{len(said)} of {len(mels)} clips have posteriors that are not finite and a log-mel "
            f"that is, {name_some([names[i] for i in said])}: the model's weights or batch "
            "statistics have diverged, so take another checkpoint"
        )
    raise InputError("; ".join(found))


def name_some(names: Sequence[str]) -> str:
    """Names for a message of one line: the first ten, and how many more there are."""
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more
