"""The values that docs/readings.md names are those of the config, and so are the defaults."""

import re
from pathlib import Path

import pytest

from jfsed_jax.configs import base

PAGE = (Path(__file__).parents[1] / "docs" / "readings.md").read_text(encoding="utf-8")
NAMES = sorted(set(re.findall(r"`config\.([a-z_.0-9]+)`", PAGE)) - {"json"})


@pytest.mark.parametrize("name", NAMES)
def test_a_value_that_the_page_names_exists(name):
    value = base.get_config()
    for part in name.split("."):
        value = value[part]


def test_the_choices_are_the_defaults():
    config = base.get_config()
    assert dict(config.batch) == {"weak": 6, "unlabelled": 51, "strong": 7}
    assert (config.loss.alignment, config.loss.before_dropout) == ("repeat", True)
    page = config.loss
    assert (page.distillation_gradient, page.distillation_teacher_map) == ("both", "trained")
    assert (page.distillation_scale, page.distillation_dims) == ("literal", 128)
    assert (page.beta_start, page.beta_end) == (0.0, -1.0)
    assert config.loss.clip_labels == "weak"
    assert (config.loss.normalisation, config.guided.alpha_inside) == ("own", False)
    assert (config.guided.clips, config.guided.soft) == ("all", False)
    assert (config.postprocess.knee, config.postprocess.clear_knee) == ("chord", 0.0)
    assert (config.evaluation.select_on, config.evaluation.tags) == ("holdout", "student")
    assert len(NAMES) > 25
