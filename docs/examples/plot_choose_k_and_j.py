"""
Choosing k and j
================

``score`` is the mean log-likelihood of held-out rows, so scikit-learn's grid search
chooses the number of subspaces k and their dimension j with its default scoring. Here
the answer is known: three subspaces of dimension 2 in a space of 8 features.
"""

import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from kprojclust import KSubspaces, make_subspaces
from kprojclust.plotting import (
    ClusterSizesDisplay,
    ModelSelectionDisplay,
    SubspaceSpectrumDisplay,
)

X, _, _ = make_subspaces(
    n_samples=300, n_features=8, n_clusters=3, n_components=2, noise=0.1, random_state=0
)

# %%
# Unlike the inertia, which falls with every direction that is added, the score of rows
# that were not fitted has its peak at the truth.

search = GridSearchCV(
    KSubspaces(n_init=5, max_iter=300, random_state=0),
    {"n_clusters": [1, 2, 3, 4, 5], "n_components": [1, 2, 3, 4]},
    cv=3,
).fit(X)
print(search.best_params_)

ModelSelectionDisplay.from_estimator(search, score_name="log-likelihood per row (nats)")

# %%
# Or vary one of them only: the line shows how much the folds differ.

search_k = GridSearchCV(
    KSubspaces(n_components=2, n_init=5, max_iter=300, random_state=0),
    {"n_clusters": [1, 2, 3, 4, 5]},
    cv=3,
).fit(X)
ModelSelectionDisplay.from_estimator(
    search_k, score_name="log-likelihood per row (nats)"
)

# %%
# The spectra agree: behind the last direction that is kept, ringed, the variance of
# every cluster drops to that of the noise, 0.1² = 0.01.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
display = SubspaceSpectrumDisplay.from_estimator(search.best_estimator_, ax=left)
display.ax_.set_yscale("log")
ClusterSizesDisplay.from_estimator(search.best_estimator_, ax=right)
plt.show()
