"""Points, lines and planes in space."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kprojclust.plotting.display import Display, colour, legend_columns, marker

KINDS = ("point", "line", "plane", "whole space")


class SubspacesDisplay(Display):
    """Rows of three features and the points, lines and planes that they lie near.

    A cluster's line or plane reaches a little beyond its rows, and thin lines show how
    far they are from it. A subspace of dimension 3 is the whole space and only named in
    the legend. Create it with `from_estimator`. ``plot`` passes its arguments to
    `Axes3D.scatter` for the rows of every cluster.

    Parameters
    ----------
    X : ndarray of shape (n_samples, 3)
        Rows.
    labels : ndarray of shape (n_samples,)
        Cluster of each row.
    components : list of ndarray of shape (n_components[c], 3)
        Orthonormal rows spanning each subspace.
    means : ndarray of shape (n_clusters, 3), default=None
        A point of each subspace; None is the origin for all.
    feature_names : sequence of 3 str, default=None
        Labels of the axes; None is "feature 0" to "feature 2".

    Attributes
    ----------
    points_ : list of matplotlib Path3DCollection
        The rows of each cluster.
    subspaces_ : dict of int to matplotlib Artist
        The point, line or plane of each cluster that has rows and a dimension below 3.
    distances_ : dict of int to matplotlib Line3D
        The thin lines of the same clusters, from the rows to their nearest points.
    ax_, figure_ : matplotlib Axes3D and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from kprojclust import KSubspaces, make_subspaces
    >>> from kprojclust.plotting import SubspacesDisplay
    >>> X, _, _ = make_subspaces(n_features=3, n_components=1, random_state=0)
    >>> model = KSubspaces(n_clusters=3, n_components=1, random_state=0).fit(X)
    >>> ax = Figure().add_subplot(projection="3d")
    >>> display = SubspacesDisplay.from_estimator(model, X, ax=ax)
    >>> len(display.subspaces_)
    3
    """

    projection = "3d"

    def __init__(self, *, X, labels, components, means=None, feature_names=None):
        self.X = X
        self.labels = labels
        self.components = components
        self.means = means
        self.feature_names = feature_names

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None, **kwargs):
        """Draw rows and the subspaces of a `KSubspaces` fitted on three features.

        Parameters
        ----------
        estimator : KSubspaces
            Fitted on three features.
        X : array-like of shape (n_samples, 3)
            Rows to draw, in the colour of their nearest subspace.
        ax : matplotlib Axes3D, default=None
            Where to draw, made with ``projection="3d"``; None is a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : SubspacesDisplay
        """
        check_is_fitted(estimator)
        if estimator.n_features_in_ != 3:
            raise ValueError(
                "estimator must be fitted on 3 features to be drawn in space. "
                f"Got n_features_in_={estimator.n_features_in_}."
            )
        display = cls(
            X=np.asarray(X),
            labels=estimator.predict(X),
            components=estimator.components_,
            means=getattr(estimator, "means_", None),
            feature_names=getattr(estimator, "feature_names_in_", None),
        )
        return display.plot(ax=ax, **kwargs)

    def _axes(self, ax):
        if ax is not None and ax.name != "3d":
            raise ValueError(
                f'ax must be made with projection="3d". Got projection="{ax.name}".'
            )
        return super()._axes(ax)

    def _draw(self, ax, **kwargs):
        self.points_, self.subspaces_, self.distances_ = [], {}, {}
        means = (
            np.zeros((len(self.components), 3)) if self.means is None else self.means
        )
        for c, basis in enumerate(self.components):
            rows = self.X[self.labels == c]
            style = {"color": colour(c), "marker": marker(c), "depthshade": False}
            style |= {"s": 12, "label": f"cluster {c}, {KINDS[len(basis)]}"}
            self.points_.append(ax.scatter(*rows.T, **style | kwargs))
            if len(rows) and len(basis) < 3:
                drawn = rows, means[c], basis, colour(c)
                self.subspaces_[c] = _draw_subspace(ax, *drawn)
                self.distances_[c] = _draw_distances(ax, *drawn)
        names = self.feature_names
        names = [f"feature {i}" for i in range(3)] if names is None else names
        ax.set(xlabel=names[0], ylabel=names[1], zlabel=names[2])
        _make_cube(ax)
        ax.legend(ncols=legend_columns(len(self.components)))


def _draw_subspace(ax, rows, mean, basis, colour):
    """Point, line or plane at ``mean``, 10 % longer than the rows reach along it."""
    if len(basis) == 0:
        return ax.plot(*mean[:, None], "x", color=colour, markersize=12)[0]
    reach = 1.1 * np.abs((rows - mean) @ basis.T).max(axis=0)
    if len(basis) == 1:
        ends = mean + np.outer([-reach[0], reach[0]], basis[0])
        return ax.plot(*ends.T, color=colour, linewidth=1.5)[0]
    signs = np.array([[[-1, -1], [-1, 1]], [[1, -1], [1, 1]]])
    corners = mean + (signs * reach) @ basis  # (2, 2, 3)
    return ax.plot_surface(*np.moveaxis(corners, -1, 0), color=colour, alpha=0.2)


def _draw_distances(ax, rows, mean, basis, colour):
    """Thin lines from the rows to the nearest points of their subspace."""
    nearest = mean + (rows - mean) @ basis.T @ basis
    gaps = np.full_like(rows, np.nan)
    pieces = np.stack([rows, nearest, gaps], axis=1).reshape(-1, 3)
    return ax.plot(*pieces.T, color=colour, linewidth=0.8)[0]


def _make_cube(ax):
    """One scale for all axes, so that right angles look right.

    ``set_aspect("equal", adjustable="datalim")`` is undone when the figure is drawn.
    """
    limits = np.reshape(ax.get_w_lims(), (3, 2))
    middle, reach = limits.mean(axis=1), np.ptp(limits, axis=1).max() / 2
    for name, value in zip("xyz", middle, strict=True):
        ax.set(**{f"{name}lim": (value - reach, value + reach)})
    ax.set_box_aspect((1, 1, 1), zoom=0.95)  # leaves room for the labels
    ax.locator_params(nbins=4)
