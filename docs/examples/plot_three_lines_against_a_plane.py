"""
Three lines against a plane
===========================

The singular value decomposition looks for one subspace that serves all rows. Where the
rows lie near several smaller ones, finding those takes fewer numbers and leaves a
smaller error. This is Figure 4 of the MESSI paper: 120 points near three lines.

A. Maalouf, H. Lang, D. Rus and D. Feldman, "Deep Learning Meets Projective Clustering",
ICLR 2021. https://arxiv.org/abs/2010.04290
"""

import matplotlib.pyplot as plt

from kprojclust import KSubspaces, make_subspaces
from kprojclust.plotting import SubspacesDisplay

X, _, _ = make_subspaces(
    120, 3, n_clusters=3, n_components=1, noise=0.05, random_state=6
)

# %%
# Both fits, with what they store: for every row its coordinates, and once the bases.
# The plane takes 2 (120 + 3) = 246 numbers, the lines take 120 + 3 · 3 = 129; the rows
# themselves are 360.

plane = KSubspaces(n_clusters=1, n_components=2).fit(X)
lines = KSubspaces(n_clusters=3, n_components=1, random_state=0).fit(X)
for name, model in [("a plane", plane), ("three lines", lines)]:
    error = model.inertia_ / (X**2).sum()
    print(f"{name}: {model.n_parameters_} numbers, relative error {error:.3f}")

# %%
# Thin lines show how far the rows are from the plane and from their lines.

figure, axes = plt.subplots(
    1, 2, figsize=(10, 5), layout="constrained", subplot_kw={"projection": "3d"}
)
for ax, model, name in zip(axes, [plane, lines], ["Plane", "Three lines"], strict=True):
    SubspacesDisplay.from_estimator(model, X, ax=ax)
    ax.view_init(elev=12, azim=-25)
    error = model.inertia_ / (X**2).sum()
    ax.set_title(f"{name}: {model.n_parameters_} numbers, relative error {error:.3f}")
plt.show()
