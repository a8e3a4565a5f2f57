"""What all displays share: where they draw and in which colours."""

from sklearn.utils.validation import check_is_fitted

# The palette of Okabe and Ito without its yellow: also colour-blind readers can tell
# these apart. The markers come back later than the colours, so that no look is used
# twice among 35 clusters.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v"


def colour(cluster):
    """Colour of a cluster, the same in all displays."""
    return COLOURS[cluster % len(COLOURS)]


def marker(cluster):
    """Marker of a cluster, the same in all displays."""
    return MARKERS[cluster % len(MARKERS)]


def legend_columns(n_clusters):
    """Columns of a legend with one entry per cluster."""
    return 1 + (n_clusters - 1) // 10


class Display:
    """Base of the displays; ``plot`` sets ``ax_`` and ``figure_``."""

    projection: str | None = None

    def plot(self, ax=None, **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None is a new figure.
        **kwargs : dict
            Passed to the method of the axes that draws the data, see the class.

        Returns
        -------
        display : Display
        """
        self._draw(self._axes(ax), **kwargs)
        return self

    def _draw(self, ax, **kwargs):
        raise NotImplementedError

    def _axes(self, ax):
        """Draw on ``ax`` or, where it is None, on a new figure of pyplot."""
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError(
                    f"{type(self).__name__} needs matplotlib: pip install matplotlib, "
                    "or the extra kprojclust[plot]."
                ) from error
            _, ax = plt.subplots(
                layout="constrained", subplot_kw={"projection": self.projection}
            )
        self.ax_, self.figure_ = ax, ax.figure
        return ax


class ClusterDisplay(Display):
    """Base of the displays of one quantity of each cluster."""

    @classmethod
    def from_estimator(cls, estimator, *, ax=None, **kwargs):
        """Draw the clusters that a `KSubspaces` found in its training rows.

        Parameters
        ----------
        estimator : KSubspaces
            Fitted.
        ax : matplotlib Axes, default=None
            Where to draw; None is a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ClusterDisplay
        """
        check_is_fitted(estimator)
        return cls(**cls._values(estimator)).plot(ax=ax, **kwargs)

    @staticmethod
    def _values(estimator):
        """Parameters of the display."""
        raise NotImplementedError
