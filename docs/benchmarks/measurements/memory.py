"""Memory of a fit beyond its rows."""

import numpy as np

from competitors import ksubspaces, sklearn_kmeans
from measurements import Row
from measurements.data import planted_file, scaled
from measurements.processes import forget_peak, in_fresh_process, status_mb

D, K, J = 64, 10, 8
TITLE = f"Peak memory of a fit beyond the rows: {D} columns, k = {K}, j = {J}"
FITS = {"KSubspaces": ksubspaces.fit, "KMeans": sklearn_kmeans.fit}


def rows(record, scale):
    """Peak resident size less that before the fit."""
    n = scaled(1_000_000, scale)
    found = record("memory", _measure, n)
    extra = {name: found[name]["peak"] - found[name]["before"] for name in FITS}
    yield Row(
        f"{n} x {D} float32, {4 * n * D / 1e6:.3g} MB, against KMeans",
        f"{extra['KSubspaces']:.3g} MB",
        f"{extra['KMeans']:.3g} MB",
        f"{extra['KSubspaces'] / max(extra['KMeans'], 1e-3):.3g}x as much",
        "<= 300 MB",
        "<= 100 MB",
    )


def _measure(n):
    with planted_file(n, D, K, J) as path:
        return {name: in_fresh_process(_fit, fit, path) for name, fit in FITS.items()}


def _fit(fit, path):
    X = np.load(path)
    fit(X[:1000], K, J, 0)  # loads what a fit loads
    before = status_mb("VmRSS")
    forget_peak()
    fit(X, K, J, 0)
    return {"before": before, "peak": status_mb("VmHWM")}
