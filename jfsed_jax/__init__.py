"""Weakly supervised sound event detection and audio tagging, in JAX.

``import jfsed_jax as jf`` imports nothing else: each name below is looked up when it is first used.
docs/api.md tells what each one takes and gives.
"""

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.3.0"

if TYPE_CHECKING:
    from jfsed_jax.audio.front_end import FrontEnd as FrontEnd
    from jfsed_jax.config_files import load_config as load_config
    from jfsed_jax.datasets.preparation import prepare as prepare
    from jfsed_jax.errors import InputError as InputError
    from jfsed_jax.inference.detector import Detector as Detector
    from jfsed_jax.inference.detector import load as load
    from jfsed_jax.inference.evaluation import evaluate as evaluate
    from jfsed_jax.inference.evaluation import prepare_for as prepare_for
    from jfsed_jax.inference.export import export_program as export_program
    from jfsed_jax.inference.export import write_export as write_export
    from jfsed_jax.inference.label_outputs import LabelOutputs as LabelOutputs
    from jfsed_jax.inference.labelling import label_recordings as label_recordings
    from jfsed_jax.inference.prediction import (
        Posteriors as Posteriors,
    )
    from jfsed_jax.inference.prediction import (
        make_posteriors as make_posteriors,
    )
    from jfsed_jax.inference.recordings import detect as detect
    from jfsed_jax.method import losses as losses
    from jfsed_jax.method import objectives as objectives
    from jfsed_jax.method.models import Output as Output
    from jfsed_jax.method.objectives import Objective as Objective
    from jfsed_jax.method.objectives import Term as Term
    from jfsed_jax.report.run_page import write_report as write_report
    from jfsed_jax.sed.events import Event as Event
    from jfsed_jax.sed.postprocessing import Decode as Decode
    from jfsed_jax.sed.postprocessing import median_decoder as median_decoder
    from jfsed_jax.sed.scoring import score as score
    from jfsed_jax.sed.tables import read_events as read_events
    from jfsed_jax.sed.tables import write_events as write_events
    from jfsed_jax.sed.window_rules import class_windows as class_windows
    from jfsed_jax.sed.window_rules import durations_by_class as durations_by_class
    from jfsed_jax.sed.window_rules import rule_options as rule_options
    from jfsed_jax.training.interrupt import Interrupted as Interrupted
    from jfsed_jax.training.loop import fit as fit

# Where each name of `jf` lives.
_HOMES = {
    "Decode": "sed.postprocessing",
    "Detector": "inference.detector",
    "Event": "sed.events",
    "FrontEnd": "audio.front_end",
    "InputError": "errors",
    "Interrupted": "training.interrupt",
    "LabelOutputs": "inference.label_outputs",
    "Objective": "method.objectives",
    "Output": "method.models",
    "Posteriors": "inference.prediction",
    "Term": "method.objectives",
    "class_windows": "sed.window_rules",
    "detect": "inference.recordings",
    "durations_by_class": "sed.window_rules",
    "evaluate": "inference.evaluation",
    "export_program": "inference.export",
    "fit": "training.loop",
    "label_recordings": "inference.labelling",
    "load": "inference.detector",
    "load_config": "config_files",
    "losses": "method.losses",
    "make_posteriors": "inference.prediction",
    "median_decoder": "sed.postprocessing",
    "objectives": "method.objectives",
    "prepare": "datasets.preparation",
    "prepare_for": "inference.evaluation",
    "read_events": "sed.tables",
    "rule_options": "sed.window_rules",
    "score": "sed.scoring",
    "write_events": "sed.tables",
    "write_export": "inference.export",
    "write_report": "report.run_page",
}
__all__ = [*_HOMES, "__version__"]


def _find_configs() -> None:
    """In a clone the configs lie beside the package, not in it as in a wheel.

    An editable install finds them; sources that only hide an installed wheel, such as those of
    ``python`` started at the root of a clone, would be without.
    """
    name = f"{__name__}.configs"
    beside = Path(__file__).parents[1] / "configs/__init__.py"
    if Path(__file__).with_name("configs").is_dir() or not beside.exists():
        return
    spec = importlib.util.spec_from_file_location(
        name, beside, submodule_search_locations=[str(beside.parent)]
    )
    assert spec and spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    globals()["configs"] = module  # as an import would bind it


_find_configs()


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    # `losses` and `objectives` are modules themselves.
    value = module if _HOMES[name].endswith(f".{name}") else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
