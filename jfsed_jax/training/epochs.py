"""How many steps an epoch has."""

from collections.abc import Mapping


def steps_in_epoch(config, counts: Mapping[str, int]) -> int:
    """Steps of an epoch: ``config.steps_per_epoch``, or what ``config.epoch`` says.

    Args:
      config: of the run.
      counts: training clips by kind, without those that are held out.
    """
    batch = dict(config.batch)
    if counts.get("unlabelled"):
        batch["unlabelled"] = batch["unlabelled"] or config.epoch_unlabelled
    passes = {
        kind: counts.get(kind, 0) // batch[kind]
        for kind in ("unlabelled", "strong", "weak")
        if batch[kind]
    }
    if config.epoch == "shortest":
        return config.steps_per_epoch or max(min(passes.values()), 1)
    # One pass over the unlabelled set; without one, over the strong or the weak set.
    return config.steps_per_epoch or max(next(iter(passes.values())), 1)
