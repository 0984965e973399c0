"""The weights of the losses and the learning rate as functions of the step (section 3.2).

Nothing else decides them, so a resumed run computes the same values. A config counts in epochs.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from jfsed_jax.method.numbers import is_on
from jfsed_jax.seams import call, resolve

Schedule = Callable[[jax.Array], jax.Array]  # of <int32>[] steps taken so far


@dataclass(frozen=True)
class Schedules:
    """alpha, beta, the weight of the guidance and the stage.

    Attributes:
      steps_per_epoch: steps in one epoch.
      alpha_base, alpha_start: lambda and s of ``alpha = 1 - lambda^(e - s)``.
      consistency_max, consistency_rampup_epochs: the teacher's guidance of the student grows to
        this weight over these epochs as beta does; 0 epochs for full weight from the start, as in
        equation 3.
      beta_max, beta_rampup_epochs: top and length of the sigmoid-shaped ramp of beta.
      tau: the epoch from which the adaptive focal loss replaces BCE; None for never.
      beta_start, beta_end: the epoch with which the ramp of beta begins, and that from which beta
        is 0 again; None for never.
    """

    steps_per_epoch: int
    alpha_base: float
    alpha_start: float
    consistency_max: float
    consistency_rampup_epochs: float
    beta_max: float
    beta_rampup_epochs: float
    tau: float | None
    beta_start: float = 0.0
    beta_end: float | None = None

    @classmethod
    def of(cls, config, steps_per_epoch: int) -> "Schedules":
        """Those that a config describes."""
        return cls(
            steps_per_epoch=steps_per_epoch,
            alpha_base=config.guided.alpha_base,
            alpha_start=config.guided.alpha_start,
            consistency_max=config.guided.consistency,
            consistency_rampup_epochs=config.guided.consistency_rampup * config.epochs,
            beta_max=config.loss.beta_max,
            beta_rampup_epochs=config.loss.beta_rampup * config.epochs,
            tau=_or_never(config.loss.tau),
            beta_start=config.loss.beta_start,
            beta_end=_or_never(config.loss.beta_end),
        )

    def epoch(self, step) -> jax.Array:
        """The number of whole epochs before this step."""
        return jnp.asarray(step) // self.steps_per_epoch

    def alpha(self, step) -> jax.Array:
        """Weight of the student's guidance of the teacher: 0 before epoch s (equation 3)."""
        return 1 - self.alpha_base ** jnp.maximum(self.epoch(step) - self.alpha_start, 0.0)

    def beta(self, step) -> jax.Array:
        """Weight of the distillation: ``beta_max exp(-5 (1 - x)^2)``, x the ramp's progress.

        0 before ``beta_start`` and from ``beta_end`` on.
        """
        since = jnp.asarray(step) - self.beta_start * self.steps_per_epoch
        on = since >= 0
        if self.beta_end is not None:
            on &= jnp.asarray(step) < self.beta_end * self.steps_per_epoch
        return jnp.where(on, self.beta_max * self._rampup(since, self.beta_rampup_epochs), 0.0)

    def consistency(self, step) -> jax.Array:
        """Weight of the teacher's guidance of the student."""
        return self.consistency_max * self._rampup(step, self.consistency_rampup_epochs)

    def _rampup(self, step, epochs: float) -> jax.Array:
        """``exp(-5 (1 - x)^2)``, x growing from 0 to 1 over `epochs` (reference [29])."""
        if not is_on(epochs):
            return jnp.ones(())
        length = epochs * self.steps_per_epoch
        if isinstance(epochs, jax.Array):  # a traced one may be 0, where 0 / 0 would be NaN
            x = jnp.clip(jnp.asarray(step) / jnp.where(length > 0, length, 1.0), 0.0, 1.0)
            x = jnp.where(length > 0, x, 1.0)
        else:
            x = jnp.clip(jnp.asarray(step) / length, 0.0, 1.0)
        return jnp.exp(-5.0 * (1 - x) ** 2)

    def second_stage(self, step) -> jax.Array:
        """True from epoch tau on (equations 5 and 6)."""
        if self.tau is None:
            return jnp.asarray(False)
        return self.epoch(step) >= self.tau

    def weights(self, step) -> dict[str, jax.Array]:
        """The weights by the names that the log has for them."""
        return {
            "alpha": self.alpha(step),
            "beta": self.beta(step),
            "consistency": self.consistency(step),
        }


def _or_never(epoch):
    """An epoch from which something is so; below 0 never: None, of a traced one infinity."""
    if isinstance(epoch, jax.Array):
        return jnp.where(epoch >= 0, epoch, jnp.inf)
    return epoch if epoch >= 0 else None


def learning_rate(page, steps_per_epoch: int) -> Schedule:
    """The rate of a step: ``learning_rate`` times the schedule that the page names.

    Args:
      page: a config's ``optimiser`` page. ``schedule`` is ``staircase``, times ``decay`` every
        ``decay_epochs`` from epoch ``decay_offset`` on, or a schedule of optax (or
        ``package.module:function``) that is called with ``schedule_arguments``; its steps are
        epochs.
      steps_per_epoch: steps in one epoch.
    """
    if page.schedule == "staircase":

        def staircase(step):
            epoch = jnp.asarray(step) // steps_per_epoch
            falls = jnp.maximum(epoch - page.decay_offset, 0) // page.decay_epochs
            return page.learning_rate * page.decay**falls

        return staircase
    make = resolve(page.schedule, optax, "config.optimiser.schedule")
    shape = call(make, "config.optimiser.schedule_arguments", **page.schedule_arguments)
    return lambda step: page.learning_rate * shape(jnp.asarray(step) / steps_per_epoch)
