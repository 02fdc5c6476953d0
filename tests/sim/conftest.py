"""The simulation's tests run on a faster codec; no other test does."""

from collections.abc import Iterator

import pytest

from . import fast


@pytest.fixture(autouse=True, scope="package")
def _fast() -> Iterator[None]:
    undo = fast.install()
    yield
    undo()
