"""Projective clustering: rows of a matrix around subspaces, for scikit-learn."""

from importlib.metadata import version

from kprojclust._ensemble import EnsembleKSubspaces
from kprojclust._ksubspaces import KSubspaces
from kprojclust.datasets import make_subspaces
from kprojclust.metrics import clustering_accuracy, principal_angles

__all__ = [
    "EnsembleKSubspaces",
    "KSubspaces",
    "clustering_accuracy",
    "make_subspaces",
    "principal_angles",
]

__version__ = version("kprojclust")
