"""Errors of the user, in one sentence that names the value and the remedy."""


class UserError(ValueError):
    """A mistake in a config, a path or an order of steps.

    Entry points print its message alone, without a traceback, and exit with status 2.
    """
