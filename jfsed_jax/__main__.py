"""``python -m jfsed_jax`` is the command ``jfsed-jax``."""

import sys

from jfsed_jax import cli

if __name__ == "__main__":
    sys.exit(cli.main())
