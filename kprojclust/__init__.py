"""Projective clustering: rows of a matrix around subspaces, for scikit-learn."""

from importlib.metadata import version

from kprojclust._ensemble import EnsembleKSubspaces
from kprojclust._ksubspaces import KSubspaces
from kprojclust._pg_kmeans import PartitioningGuidedKMeans
from kprojclust._product_quantizer import ProductQuantizer
from kprojclust.datasets import make_subspaces
from kprojclust.metrics import clustering_accuracy, principal_angles

__all__ = [
    "EnsembleKSubspaces",
    "KSubspaces",
    "PartitioningGuidedKMeans",
    "ProductQuantizer",
    "clustering_accuracy",
    "make_subspaces",
    "principal_angles",
]

__version__ = version("kprojclust")
