"""Scores of a search over the number and the dimension of the subspaces."""

import numpy as np
from sklearn.utils.validation import check_is_fitted

from kprojclust.plotting.display import Display

BEST_COLOUR = "#D55E00"
AXIS_LABELS = {
    "n_clusters": "number of subspaces, n_clusters",
    "n_components": "dimension of the subspaces, n_components",
}


class ModelSelectionDisplay(Display):
    """Mean test score over the number and the dimension of the subspaces.

    A heat map where a search varies both, a line where it varies one. Where other
    parameters vary too, each cell or point shows the best of its candidates. Create it
    with `from_estimator`.

    Parameters
    ----------
    n_clusters, n_components : list of length n_candidates
        What each candidate of the search was.
    mean_test_score, std_test_score : array-like of shape (n_candidates,)
        Mean and standard deviation over the folds; NaN for fits that failed.
    best_index : int
        The candidate to mark.
    score_name : str, default="score"
        What the score is, with its unit, for the label.

    Attributes
    ----------
    im_ : matplotlib AxesImage or None
        The heat map, if drawn.
    errorbar_ : matplotlib ErrorbarContainer or None
        The line with bars of one standard deviation, if drawn.
    best_ : matplotlib Artist
        The mark of the best candidate.
    ax_, figure_ : matplotlib Axes and Figure

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.model_selection import GridSearchCV
    >>> from kprojclust import KSubspaces, make_subspaces
    >>> from kprojclust.plotting import ModelSelectionDisplay
    >>> X, _, _ = make_subspaces(n_samples=60, noise=0.1, random_state=0)
    >>> model = KSubspaces(random_state=0)
    >>> grid = {"n_clusters": [2, 3], "n_components": [1, 2]}
    >>> search = GridSearchCV(model, grid, cv=2).fit(X)
    >>> display = ModelSelectionDisplay.from_estimator(search, ax=Figure().subplots())
    >>> display.im_.get_array().shape
    (2, 2)
    """

    def __init__(
        self,
        *,
        n_clusters,
        n_components,
        mean_test_score,
        std_test_score,
        best_index,
        score_name="score",
    ):
        self.n_clusters = n_clusters
        self.n_components = n_components
        self.mean_test_score = mean_test_score
        self.std_test_score = std_test_score
        self.best_index = best_index
        self.score_name = score_name

    @classmethod
    def from_estimator(cls, search, *, score_name=None, ax=None, **kwargs):
        """Draw the scores of a fitted search.

        Parameters
        ----------
        search : GridSearchCV, RandomizedSearchCV or alike
            Fitted; of a clustering, or of a pipeline that ends in one: the parameters
            are those called `n_clusters` and `n_components`, with or without the name
            of a step before them.
        score_name : str, default=None
            What the score is, with its unit, for the label. None is "score", or the
            name given to `refit` of a search with several scores.
        ax : matplotlib Axes, default=None
            Where to draw; None is a new figure.
        **kwargs : dict
            Passed to `plot`.

        Returns
        -------
        display : ModelSelectionDisplay
        """
        check_is_fitted(search, "cv_results_")
        metric = _metric(search)
        means = search.cv_results_[f"mean_test_{metric}"]
        values = _candidates(search)
        if all(len(set(column)) == 1 for column in values.values()):
            raise ValueError(
                "search must vary n_clusters or n_components. "
                f"Got the parameters {_searched(search)}."
            )
        display = cls(
            **values,
            mean_test_score=means,
            std_test_score=search.cv_results_[f"std_test_{metric}"],
            best_index=int(getattr(search, "best_index_", np.nanargmax(means))),
            score_name=metric if score_name is None else score_name,
        )
        return display.plot(ax=ax, **kwargs)

    def plot(self, ax=None, *, values_format=".4g", **kwargs):
        """Draw.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Where to draw; None is a new figure.
        values_format : str, default=".4g"
            Format of the numbers in the cells of the heat map.
        **kwargs : dict
            Passed to `Axes.imshow` (heat map) or `Axes.errorbar` (line).

        Returns
        -------
        display : ModelSelectionDisplay
        """
        ax = self._axes(ax)
        self.im_, self.errorbar_ = None, None
        if len(set(self.n_clusters)) > 1 and len(set(self.n_components)) > 1:
            self._plot_table(ax, values_format, kwargs)
        else:
            self._plot_line(ax, kwargs)
        ax.legend(
            handles=[self.best_]
            if self.errorbar_ is None
            else [self.errorbar_, self.best_],
            loc="lower right",
            bbox_to_anchor=(1, 1),
            borderaxespad=0.2,
            frameon=False,
            ncols=2,
        )
        return self

    def _plot_table(self, ax, values_format, kwargs):
        from matplotlib.patches import Rectangle

        ks, js = _levels(self.n_clusters), _levels(self.n_components)
        cells = list(zip(self.n_clusters, self.n_components, strict=True))
        scores = np.full((len(js), len(ks)), np.nan)
        for (k, j), score in zip(cells, self.mean_test_score, strict=True):
            at = js.index(j), ks.index(k)
            scores[at] = np.fmax(scores[at], score)
        style = {"origin": "lower", "cmap": "viridis", "aspect": "auto"} | kwargs
        self.im_ = ax.imshow(scores, **style)
        self.figure_.colorbar(self.im_, ax=ax, label=f"mean test {self.score_name}")
        for (row, column), score in np.ndenumerate(scores):
            text = "failed" if np.isnan(score) else format(score, values_format)
            ax.text(
                column, row, text, ha="center", va="center", color=_ink(self.im_, score)
            )
        k, j = cells[self.best_index]
        corner = ks.index(k) - 0.5, js.index(j) - 0.5
        self.best_ = Rectangle(corner, 1, 1, fill=False, clip_on=False)
        self.best_.set(edgecolor=BEST_COLOUR, linewidth=4)
        self.best_.set_label(f"best: n_clusters = {k}, n_components = {j}")
        ax.add_patch(self.best_)
        ax.set_xticks(range(len(ks)), ks)
        ax.set_yticks(range(len(js)), js)
        ax.set(xlabel=AXIS_LABELS["n_clusters"], ylabel=AXIS_LABELS["n_components"])

    def _plot_line(self, ax, kwargs):
        name = "n_clusters" if len(set(self.n_clusters)) > 1 else "n_components"
        values = getattr(self, name)
        levels = _levels(values)
        means = np.array(self.mean_test_score)
        chosen = _best_of_each(levels, values, means)
        numeric = not any(isinstance(level, tuple) for level in levels)
        x = dict(zip(levels, levels if numeric else map(str, levels), strict=True))
        style = {"color": "#0072B2", "marker": "o", "capsize": 3}
        style |= {"label": "± 1 standard deviation over the folds"} | kwargs
        deviations = np.array(self.std_test_score)[chosen]
        points = list(x.values()), means[chosen]
        self.errorbar_ = ax.errorbar(*points, yerr=deviations, **style)
        best = values[self.best_index]
        ring = {"marker": "o", "markersize": 13, "markerfacecolor": "none"}
        ring |= {"markeredgecolor": BEST_COLOUR, "markeredgewidth": 2.5}
        ring |= {"linestyle": "none", "label": f"best: {name} = {best}"}
        (self.best_,) = ax.plot(x[best], means[self.best_index], **ring)
        if numeric:
            ax.set_xticks(levels)
        ax.set(xlabel=AXIS_LABELS[name], ylabel=f"mean test {self.score_name}")


def _best_of_each(levels, values, scores):
    """Index of the best candidate with each level; NaN is the worst score."""
    ranks = np.nan_to_num(scores, nan=-np.inf)
    candidates = [[i for i, v in enumerate(values) if v == level] for level in levels]
    return [max(own, key=ranks.__getitem__) for own in candidates]


def _ink(image, score):
    """Black on the light cells of the heat map, white on the dark ones."""
    if np.isnan(score):
        return "black"
    red, green, blue, _ = image.cmap(image.norm(score))
    return "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"


def _metric(search):
    """Name of the score in ``cv_results_``: that of `refit` where there are several."""
    if not search.multimetric_:
        return "score"
    if not isinstance(search.refit, str):
        raise ValueError(
            "refit must name one of the scores of a search that has several. "
            f"Got refit={search.refit!r}."
        )
    return search.refit


def _searched(search):
    """Names of the parameters that the search sets, sorted."""
    return sorted(set().union(*search.cv_results_["params"]))


def _prefix(search):
    """Find what stands before `n_clusters` and `n_components` in the names."""
    for suffix in AXIS_LABELS:
        found = [
            name.removesuffix(suffix)
            for name in _searched(search)
            if name == suffix or name.endswith(f"__{suffix}")
        ]
        if len(found) > 1:
            raise ValueError(
                f"search must vary {suffix} of one step. "
                f"Got the parameters {_searched(search)}."
            )
        if found:
            return found[0]
    return ""


def _candidates(search):
    """Both parameters of every candidate, from the estimator where not searched."""
    prefix, defaults = _prefix(search), search.estimator.get_params()
    return {
        name: [
            _hashable(candidate.get(prefix + name, defaults.get(prefix + name)))
            for candidate in search.cv_results_["params"]
        ]
        for name in AXIS_LABELS
    }


def _hashable(value):
    """Return an int as it is and dimensions of each subspace as a tuple."""
    value = np.asarray(value).tolist()
    return tuple(value) if isinstance(value, list) else value


def _levels(values):
    """Return the distinct values, sorted, tuples last."""
    return sorted(set(values), key=lambda value: (isinstance(value, tuple), value))
