"""Configs at `:tiny` with models of two blocks and one GRU layer, which compile in half the time.

For tests that train, but of which no statement depends on the models: ``--config
tests/narrow.py:pts`` on a command line, `narrow` on a config.
"""

import jfsed_jax as jf


def narrow(config):
    """The config; of its models those that are CRNNs are small, with the same frame rates."""
    few = dict(filters=(4, 4), kernels=(3, 3), convs=(1, 1), gru_layers=1)
    if "teacher" in config:
        # The largest of so many values makes a long program.
        config.teacher.update(few, pools=((10, 8), (10, 4)), pooling="mean")
    if config.student.architecture == "CRNN":
        config.student.update(few, pools=((1, 8), (1, 8)))
    return config


def get_config(name: str):
    """The config NAME of the package."""
    return narrow(jf.load_config(f"{name}:tiny"))
