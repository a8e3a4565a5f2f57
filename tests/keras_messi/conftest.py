"""Fixtures of the tests of layers and models."""

import pytest


@pytest.fixture(params=["int8", "int4"])
def mode(request):
    """How factors are stored in fewer bits."""
    return request.param
