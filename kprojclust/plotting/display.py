"""What all displays share: where they draw and in which colours."""

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

    def _axes(self, ax, projection=None):
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
                layout="constrained", subplot_kw={"projection": projection}
            )
        self.ax_, self.figure_ = ax, ax.figure
        return ax
