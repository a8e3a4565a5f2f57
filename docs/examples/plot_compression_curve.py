"""
What a number of subspaces saves
================================

k subspaces of dimension j store :math:`j (n + k d)` numbers for n rows of d features.
More subspaces cost more bases, and pay where they bring the rows closer. The rows here
lie near three subspaces of dimension 4; the singular value decomposition is k = 1.
"""

import matplotlib.pyplot as plt

from kprojclust import KSubspaces, make_subspaces

X, _, _ = make_subspaces(
    600, 30, n_clusters=3, n_components=4, noise=0.1, random_state=0
)

# %%
# Relative error is the share of the squared length of the rows that is lost.


def curve(k):
    """Stored share in % and relative error, for j from 1 to 12."""
    points = []
    for j in [1, 2, 3, 4, 6, 8, 12]:
        model = KSubspaces(k, j, n_init=2, max_iter=300, random_state=0).fit(X)
        points.append((100 * model.n_parameters_ / X.size, model.inertia_))
    stored, inertia = zip(*points, strict=True)
    return stored, [value / (X**2).sum() for value in inertia]


# %%
# With three subspaces, four directions each leave little but the noise. One subspace
# needs the twelve directions of all three together for that, and about 2.7 times as
# many numbers. At that error a fourth and a fifth subspace save nothing more.

figure, ax = plt.subplots(layout="constrained")
colours = ["black", "#E69F00", "#0072B2", "#009E73", "#CC79A7"]
for k, colour, marker in zip(range(1, 6), colours, "osD^v", strict=True):
    ax.plot(
        *curve(k),
        color=colour,
        marker=marker,
        markersize=5,
        linestyle="--" if k == 1 else "-",
        label="k = 1 (SVD)" if k == 1 else f"k = {k}",
    )
ax.annotate(
    "as planted:\nk = 3, j = 4",
    xy=(15.3, 0.06),
    xytext=(4, 0.035),
    arrowprops={"arrowstyle": "->"},
)
ax.set(xlabel="numbers stored (% of the matrix)", ylabel="relative error", yscale="log")
ax.set_yticks([0.03, 0.1, 0.3, 1], ["0.03", "0.1", "0.3", "1"])
ax.yaxis.set_minor_formatter("")
ax.grid(alpha=0.3)
ax.legend(title="subspaces")
plt.show()
