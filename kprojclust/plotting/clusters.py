"""Pictures of fitted clusterings, drawn as scikit-learn's displays are."""

import numpy as np

from kprojclust.plotting.display import ClusterDisplay, colour, legend_columns, marker


class SubspaceSpectrumDisplay(ClusterDisplay):
    """Explained variance along the directions of each cluster, strongest first.

    One line per cluster, with a ring around the last direction that its subspace
    keeps. A subspace of the right dimension has its ring just before the line drops to
    the level of the noise. Create it with `from_estimator`; where the values span
    orders of magnitude, follow with ``display.ax_.set_yscale("log")``. ``plot`` passes
    its arguments to `Axes.plot` for every line.

    Parameters
    ----------
    explained_variance : list of array-like of shape (n_features,)
        Variances of each cluster, descending.
    n_components : array-like of shape (n_clusters,)
        Dimension of each subspace.

    Attributes
    ----------
    lines_ : list of matplotlib Line2D
        The line of each cluster.
    marks_ : list of matplotlib Line2D
        The ring of each cluster; empty for one of dimension 0.
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kprojclust import KSubspaces, make_subspaces
    >>> from kprojclust.plotting import SubspaceSpectrumDisplay
    >>> X, _, _ = make_subspaces(noise=0.1, random_state=0)
    >>> model = KSubspaces(n_clusters=3, n_components=2, random_state=0).fit(X)
    >>> display = SubspaceSpectrumDisplay.from_estimator(model, ax=Figure().subplots())
    >>> len(display.lines_)
    3
    """

    def __init__(self, *, explained_variance, n_components):
        self.explained_variance = explained_variance
        self.n_components = n_components

    @staticmethod
    def _values(estimator):
        return {
            "explained_variance": estimator.explained_variance_,
            "n_components": estimator.n_components_,
        }

    def _draw(self, ax, **kwargs):
        self.lines_, self.marks_ = [], []
        ring = {"linestyle": "none", "marker": "o", "markersize": 12}
        ring |= {"markerfacecolor": "none", "markeredgewidth": 2}
        spectra = zip(self.explained_variance, self.n_components, strict=True)
        for c, (variances, j) in enumerate(spectra):
            style = {"color": colour(c), "marker": marker(c), "markersize": 4}
            style |= {"label": f"cluster {c}"} | kwargs
            self.lines_ += ax.plot(range(1, len(variances) + 1), variances, **style)
            last = slice(max(j - 1, 0), j)  # empty for a subspace of dimension 0
            self.marks_ += ax.plot(
                range(1, len(variances) + 1)[last],
                variances[last],
                color=self.lines_[-1].get_color(),
                **ring,
            )
        (key,) = ax.plot([], [], color="grey", label="n_components_", **ring)
        ax.legend(handles=[*self.lines_, key], ncols=legend_columns(len(self.lines_)))
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(
            xlabel="direction of the cluster, strongest first",
            ylabel="explained variance (squared units of X)",
        )


class ClusterSizesDisplay(ClusterDisplay):
    r"""Number of rows of each cluster, with the dimension j of its subspace.

    Create it with `from_estimator`. ``plot`` passes its arguments to `Axes.bar`.

    Parameters
    ----------
    sizes : array-like of shape (n_clusters,)
        Rows of each cluster.
    n_components : array-like of shape (n_clusters,)
        The dimension j of each subspace.

    Attributes
    ----------
    bars_ : matplotlib BarContainer
        The bars.
    texts_ : list of matplotlib Text
        What is written above them.
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kprojclust import KSubspaces, make_subspaces
    >>> from kprojclust.plotting import ClusterSizesDisplay
    >>> X, _, _ = make_subspaces(n_samples=300, random_state=0)
    >>> model = KSubspaces(n_clusters=3, n_components=2, random_state=0).fit(X)
    >>> display = ClusterSizesDisplay.from_estimator(model, ax=Figure().subplots())
    >>> [text.get_text() for text in display.texts_]
    ['100\nj = 2', '100\nj = 2', '100\nj = 2']
    """

    def __init__(self, *, sizes, n_components):
        self.sizes = sizes
        self.n_components = n_components

    @staticmethod
    def _values(estimator):
        dimensions = estimator.n_components_
        sizes = np.bincount(estimator.labels_, minlength=len(dimensions))
        return {"sizes": sizes, "n_components": dimensions}

    def _draw(self, ax, **kwargs):
        clusters = range(len(self.sizes))
        style = {"color": [colour(c) for c in clusters]} | kwargs
        self.bars_ = ax.bar(clusters, self.sizes, **style)
        many = len(self.sizes) > 12
        labels = [
            f"j = {j}" if many else f"{size}\nj = {j}"
            for size, j in zip(self.sizes, self.n_components, strict=True)
        ]
        self.texts_ = ax.bar_label(
            self.bars_, labels, padding=3, rotation=90 if many else 0
        )
        ax.margins(y=0.15)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set(xlabel="cluster (j: dimension of its subspace)", ylabel="rows")
