"""The recurrence of a bidirectional GRU, with its gradient written by hand.

Whatever does not wait for the frame before is done for all frames at once: before the loop the
projection of the input, and in the backward pass the gates, their derivatives and the weights'
gradients. What is left to a loop is one small matrix product a turn, for both directions together.
The two `Loops` are a scan, in `jfsed_jax.kernels.gru`, or one kernel each for all frames on a GPU,
in `jfsed_jax.kernels.gru_gpu`.

Axis letters and the order of the gates as in `jfsed_jax.kernels.gru`.
"""

import importlib
import warnings
from functools import cache, partial
from types import ModuleType

import jax
import jax.numpy as jnp
from jax import lax

from jfsed_jax.kernels.gru import SCAN, Loops, gates, split_gates


@cache
def _kernels(backend) -> ModuleType | None:
    """The module with the kernels for a backend of Pallas; None, said once, if JAX lacks it."""
    # Here, so that nobody who does not ask for the kernels needs Pallas.
    try:
        return importlib.import_module(f"jfsed_jax.kernels.gru_{backend}")
    except ImportError as error:
        warnings.warn(
            f"The GRU runs as a scan: JAX {jax.__version__} lacks what its {backend} kernels need"
            f" ({error}).",
            stacklevel=2,
        )
        return None


def _kernel_or_scan(backend, which, *arguments):
    """The kernel's loop on a CUDA device, if the kernel is made for this H; elsewhere the scan's.

    The platform is known only when the program is compiled: a checkpoint of a run on a GPU predicts
    on any machine.
    """
    scan = getattr(SCAN, which)
    kernels = _kernels(backend)
    if kernels is None or not kernels.fits(hidden=arguments[-1].shape[-1] // 3):
        return scan(*arguments)
    return lax.platform_dependent(*arguments, cuda=getattr(kernels, f"{which}_loop"), default=scan)


def _compiled_by(backend) -> Loops:
    return Loops(*(partial(_kernel_or_scan, backend, which) for which in Loops._fields))


# By the names that config.gru_loop can have. Mosaic GPU, which JAX keeps, is no default: nobody has
# run its kernels on a GPU.
LOOPS = {"scan": SCAN, "pallas": _compiled_by("triton"), "mosaic": _compiled_by("mosaic")}


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def recurrence(forward, backward, kernel, bias, loops: Loops = SCAN) -> tuple[jax.Array, jax.Array]:
    """The states of both directions, from zero.

    Args:
      forward, backward: [T, B, 3H] projected inputs, frame by frame.
      kernel: [2, H, 3H] recurrent weights.
      bias: [2, 3H] recurrent biases.
      loops: how the loops are run.

    Returns:
      Two [T, B, H], frame by frame.
    """
    return _forward(forward, backward, kernel, bias, loops)[0]


def _forward(forward, backward, kernel, bias, loops):
    states = loops.forward(forward, backward, kernel, bias)
    return (states[:, 0], states[::-1, 1]), (forward, backward, kernel, bias, states)


def _backward(loops, residuals, cotangents):
    forward, backward, kernel, bias, states = residuals
    # From here on [2, T, B, ...], both directions turn by turn.
    before = jnp.concatenate([jnp.zeros_like(states[:1]), states[:-1]]).swapaxes(0, 1)
    projected = split_gates(jnp.stack([forward, backward[::-1]]))
    recurred = split_gates(jnp.einsum("ztbh,zhk->ztbk", before, kernel) + bias[:, None, None])
    reset, update, new = gates(projected, recurred)
    # What the gates' arguments gain per unit of the new state.
    to_new = (1 - update) * (1 - new**2)
    to_update = (before - new) * update * (1 - update)
    to_reset = to_new * recurred[2] * reset * (1 - reset)
    to_recurred = jnp.concatenate([to_reset, to_update, to_new * reset], axis=-1)
    outer = jnp.stack([cotangents[0], cotangents[1][::-1]])

    totals = loops.backward(outer, update, to_recurred, kernel)

    to_projected = jnp.concatenate([to_reset, to_update, to_new], axis=-1)
    projected_gradient = jnp.tile(totals, 3) * to_projected
    recurred_gradient = jnp.tile(totals, 3) * to_recurred
    kernel_gradient = jnp.einsum("ztbh,ztbk->zhk", before, recurred_gradient)
    bias_gradient = recurred_gradient.sum((1, 2))
    return projected_gradient[0], projected_gradient[1][::-1], kernel_gradient, bias_gradient


recurrence.defvjp(_forward, _backward)
