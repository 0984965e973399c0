"""By what each of the runs that train together selects its checkpoint."""

from collections.abc import Callable
from typing import Any

from jfsed_jax.errors import InputError
from jfsed_jax.inference.prediction import make_posteriors
from jfsed_jax.method.optimisers import averaged
from jfsed_jax.method.state import TrainState, model_variables, state_of_seed
from jfsed_jax.sed.postprocessing import Decode
from jfsed_jax.training.plan import Plan
from jfsed_jax.training.program import Program
from jfsed_jax.training.validation import validate


def make_validation(program: Program, decode: Decode | None) -> Callable[[Any], list[Any]]:
    """``state -> scores`` of each seed of each run on the clips that it selects by.

    In place of the scores of a run that cannot be scored, why.
    """
    known: list[tuple[Any, Any]] = []

    def posteriors_of(*named) -> Any:
        """One program for all runs that have the same."""
        for names, function in known:
            if names == named:
                return function
        known.append((named, make_posteriors(*named)))
        return known[-1][1]

    def scorer(plan: Plan) -> Callable[[TrainState], list[dict]]:
        page = plan.config.evaluation
        posteriors = posteriors_of(plan.models, page.model, page.tags)
        decoder = decode or plan.decoder()
        stride = round(plan.prepared.front_end.frame_rate / plan.meta["frame_rate"])
        options = {"gate": plan.config.postprocess.gate, "stride": stride}

        def scores_of(state: TrainState) -> list[dict]:
            scores = []
            for k, own in enumerate(plan.data):
                seed = state_of_seed(state, k)
                variables = model_variables(
                    seed.params,
                    seed.batch_stats,
                    averaged(seed.opt_state),
                    use_average=page.average,
                )
                scores.append(
                    validate(
                        posteriors,
                        variables,
                        own,
                        plan.prepared,
                        decoder,
                        page.select_by,
                        **options,
                    )
                )
            return scores

        return scores_of

    scorers = [scorer(plan) for plan in program.plans]

    def scores_of_all(state: Any) -> list[Any]:
        scores: list[Any] = []
        for m, scores_of in enumerate(scorers):
            try:
                scores += scores_of(program.of_run(state, m))
            except InputError as error:
                scores += [error] * program.seeds
        return scores

    return scores_of_all
