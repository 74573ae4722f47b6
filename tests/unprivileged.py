"""To be another user for a moment: root may read everything, so its tests of permissions would prove nothing."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

NOBODY = 65534


@contextmanager
def unprivileged() -> Iterator[None]:
    """Let this process open files as a user without rights of its own; skips the test where it may not change user."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(NOBODY)
    except PermissionError:
        pytest.skip("root without the right to become another user: permissions cannot be tried")
    try:
        yield
    finally:
        os.seteuid(0)
