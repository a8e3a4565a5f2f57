"""Displays of fitted clusterings, with the interface of scikit-learn's displays.

May import matplotlib (the extra `plot`) and nothing private of ours.
"""

from kprojclust.plotting.clusters import ClusterSizesDisplay, SubspaceSpectrumDisplay
from kprojclust.plotting.model_selection import ModelSelectionDisplay
from kprojclust.plotting.subspaces import SubspacesDisplay

__all__ = [
    "ClusterSizesDisplay",
    "ModelSelectionDisplay",
    "SubspaceSpectrumDisplay",
    "SubspacesDisplay",
]
