"""The values of `configs.base` as the objects that functions take, some of them changed."""

from typing import Any

from jfsed_jax.audio.front_end import FrontEnd
from jfsed_jax.configs import base
from jfsed_jax.sed import window_rules


def front_end(**changes: Any) -> FrontEnd:
    """The paper's front end."""
    return FrontEnd(**{**base.get_config().front_end, **changes})


def rule_options(**changes: Any) -> window_rules.RuleOptions:
    """The options of window rules."""
    return window_rules.rule_options(base.get_config().postprocess, **changes)
