"""The command line: ``jfsed-jax COMMAND [--flag=value ...] [ARG ...]``."""
