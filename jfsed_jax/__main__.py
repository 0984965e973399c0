"""``python -m jfsed_jax`` is the command ``jfsed-jax``."""

import sys

from jfsed_jax.cli import main as cli

if __name__ == "__main__":
    sys.exit(cli.main())
