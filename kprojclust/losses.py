r"""Losses of the distances to the subspaces, and the row weights they lead to.

Written as :math:`\rho(r) = \varphi(r^2)`, each loss here has a concave :math:`\varphi`.
Its tangent :math:`\varphi(s) \le \varphi(s_0) + \varphi'(s_0) (s - s_0)` makes a PCA of
rows weighted by :math:`\varphi'(r^2) = \rho'(r) / (2 r)` a step that never raises the
sum of the losses.

References
----------
Hunter and Lange, "A Tutorial on MM Algorithms" (2004),
https://doi.org/10.1198/0003130042836
"""

from numbers import Real

import numpy as np
from sklearn.base import BaseEstimator, clone

__all__ = [
    "LOSSES",
    "CauchyLoss",
    "GemanMcClureLoss",
    "HuberLoss",
    "Loss",
    "LqLoss",
    "SquaredLoss",
    "TruncatedLoss",
    "TukeyLoss",
    "TunedLoss",
    "WelschLoss",
    "check_loss",
    "get_loss",
    "ready",
]


class Loss(BaseEstimator):
    """Base of the losses; a loss adds ``rho`` and ``weights``.

    Both take an ndarray of non-negative residuals and return one of the same shape and
    dtype: ``rho(residuals)`` the losses, 0 at 0 and non-decreasing, and
    ``weights(residuals)`` their derivative by the squared residual, rho'(r) / (2 r),
    finite at 0 and non-increasing.
    """

    def scaled(self, scale):
        """Loss to use for residuals of a given scale: itself, without ``delta``."""
        return self


class TunedLoss(Loss):
    """Base of the losses with a tuning constant ``delta``, a residual.

    Parameters
    ----------
    delta : float, default=None
        None: ``tuning``, an attribute of the class, times the scale of the residuals.
        Unless said otherwise, ``tuning`` gives 95 % efficiency on Gaussian residuals,
        with the standard deviation for scale.

    References
    ----------
    Holland and Welsch (1977), https://doi.org/10.1080/03610927708827533
    """

    def __init__(self, delta=None):
        self.delta = delta

    def scaled(self, scale):
        """Loss to use for residuals of a given scale: a copy where ``delta`` is None.

        Parameters
        ----------
        scale : float
            Typical size of the residuals of rows that fit, positive.

        Returns
        -------
        loss : TunedLoss
            The loss itself where ``delta`` is set.
        """
        if self.delta is None:
            delta = self.tuning * _check_positive(scale, "scale")
            return clone(self).set_params(delta=delta)
        _check_positive(self.delta, "delta")
        return self

    def rho(self, residuals):
        """Loss of each residual."""
        return self._rho(residuals, self._checked_delta())

    def weights(self, residuals):
        """Row weight of each residual."""
        return self._weights(residuals, self._checked_delta())

    def _checked_delta(self):
        if self.delta is None:
            raise ValueError(
                "delta must be set before the loss is used; scaled(scale) does so. "
                f"Got {self!r}."
            )
        return _check_positive(self.delta, "delta")


class SquaredLoss(Loss):
    """The loss r^2 of least squares."""

    def rho(self, residuals):
        """Loss of each residual."""
        return residuals**2

    def weights(self, residuals):
        """Row weight of each residual."""
        return np.ones_like(residuals)


class LqLoss(TunedLoss):
    """The loss r^q, below delta a parabola: (q/2) delta^(q-2) r^2 + (1 - q/2) delta^q.

    The two meet with the same slope. The constant (1 - q/2) delta^q is taken off both,
    so that rho(0) = 0.

    Parameters
    ----------
    q : float, default=1.0
        Above 0 and at most 2. The smaller, the less distant rows pull.

    delta : float, default=None
        Positive. None: 0.001 times the scale of the residuals.

    References
    ----------
    Lerman and Maunu (2018), https://arxiv.org/abs/1406.6145
    """

    tuning = 1e-3

    def __init__(self, q=1.0, delta=None):
        super().__init__(delta)
        self.q = q

    def scaled(self, scale):
        """Loss to use for residuals of a given scale: see ``TunedLoss.scaled``."""
        self._checked_q()
        return super().scaled(scale)

    def _rho(self, residuals, delta):
        q = self._checked_q()
        parabola = self._weights(residuals, delta) * residuals**2
        power = np.maximum(residuals, delta) ** q - (1 - q / 2) * delta**q
        return np.where(residuals < delta, parabola, power)

    def _weights(self, residuals, delta):
        q = self._checked_q()
        return q / 2 * np.maximum(residuals, delta) ** (q - 2)

    def _checked_q(self):
        if not isinstance(self.q, Real) or not 0 < float(self.q) <= 2:
            raise ValueError(
                "q must be above 0 and at most 2: beyond 2 the loss is not concave in "
                "r^2, so that the reweighted step is not a majoriser and may raise the "
                f"objective. Got q={self.q!r}."
            )
        return float(self.q)


class HuberLoss(TunedLoss):
    """The loss r^2 up to delta, 2 delta r - delta^2 beyond.

    ``delta`` defaults to 1.345 times the scale of the residuals.

    References
    ----------
    Huber (1964), https://doi.org/10.1214/aoms/1177703732
    """

    tuning = 1.345

    def _rho(self, residuals, delta):
        within = np.minimum(residuals, delta)
        return within * (2 * residuals - within)

    def _weights(self, residuals, delta):
        return delta / np.maximum(residuals, delta)


class CauchyLoss(TunedLoss):
    """The loss delta^2 log(1 + (r / delta)^2).

    ``delta`` defaults to 2.385 times the scale of the residuals.

    References
    ----------
    Barron (2019), Section 1, https://arxiv.org/abs/1701.03077
    """

    tuning = 2.385

    def _rho(self, residuals, delta):
        return delta**2 * np.log1p((residuals / delta) ** 2)

    def _weights(self, residuals, delta):
        return 1 / (1 + (residuals / delta) ** 2)


class GemanMcClureLoss(TunedLoss):
    """The loss r^2 / (1 + (r / delta)^2), which tends to delta^2.

    ``delta`` defaults to 3.787 times the scale of the residuals: the solution of the
    equation for 95 % efficiency.

    References
    ----------
    Barron (2019), Section 1, https://arxiv.org/abs/1701.03077
    """

    tuning = 3.787

    def _rho(self, residuals, delta):
        return residuals**2 / (1 + (residuals / delta) ** 2)

    def _weights(self, residuals, delta):
        return (1 + (residuals / delta) ** 2) ** -2


class WelschLoss(TunedLoss):
    """The loss delta^2 (1 - exp(-(r / delta)^2)), which tends to delta^2.

    ``delta`` defaults to 2.985 times the scale of the residuals.

    References
    ----------
    Dennis and Welsch (1978), https://doi.org/10.1080/03610917808812083
    """

    tuning = 2.985

    def _rho(self, residuals, delta):
        return -(delta**2) * np.expm1(-((residuals / delta) ** 2))

    def _weights(self, residuals, delta):
        return np.exp(-((residuals / delta) ** 2))


class TukeyLoss(TunedLoss):
    """The loss delta^2 / 3 (1 - (1 - min(r / delta, 1)^2)^3).

    ``delta`` defaults to 4.685 times the scale of the residuals.

    References
    ----------
    Beaton and Tukey (1974), https://doi.org/10.1080/00401706.1974.10489171
    """

    tuning = 4.685

    def _rho(self, residuals, delta):
        u = np.minimum(residuals / delta, 1) ** 2
        return delta**2 * u * (1 - u + u**2 / 3)

    def _weights(self, residuals, delta):
        return (1 - np.minimum(residuals / delta, 1) ** 2) ** 2


class TruncatedLoss(TunedLoss):
    """The loss min(r, delta)^2: rows beyond delta have no pull.

    ``delta`` defaults to 2.795 times the scale of the residuals.

    References
    ----------
    Hinich and Talwar (1975), https://doi.org/10.1080/01621459.1975.10480271
    """

    tuning = 2.795

    def _rho(self, residuals, delta):
        return np.minimum(residuals, delta) ** 2

    def _weights(self, residuals, delta):
        return (residuals <= delta).astype(residuals.dtype)


LOSSES = {
    "squared": SquaredLoss,
    "l1": LqLoss,
    "huber": HuberLoss,
    "cauchy": CauchyLoss,
    "geman-mcclure": GemanMcClureLoss,
    "welsch": WelschLoss,
    "tukey": TukeyLoss,
    "truncated": TruncatedLoss,
}


def get_loss(loss):
    """Loss of a given name.

    Parameters
    ----------
    loss : str or object
        A key of ``LOSSES``, or an object with ``rho`` and ``weights``.

    Returns
    -------
    loss : object
        A new object for a name; an object is returned as it is.

    Examples
    --------
    >>> from kprojclust.losses import get_loss
    >>> get_loss("huber").scaled(2.0)
    HuberLoss(delta=2.69)
    """
    if isinstance(loss, str) and loss in LOSSES:
        return LOSSES[loss]()
    got = repr(loss)
    if isinstance(loss, type):
        got = f"the class {loss.__name__}, not an object of it"
    elif not isinstance(loss, str):
        wanted = ("rho", "weights")
        missing = [name for name in wanted if not callable(getattr(loss, name, None))]
        if not missing:
            return loss
        got += f", which has no {' and no '.join(missing)}"
    raise ValueError(
        f"loss must be one of {list(LOSSES)} or an object with rho and weights. "
        f"Got {got}."
    )


def ready(loss, scale):
    """Loss to use for residuals of a given scale.

    Parameters
    ----------
    loss : str or object
        As for ``get_loss``.
    scale : float
        Typical size of the residuals of rows that fit, positive.

    Returns
    -------
    loss : object
        What its method ``scaled`` returns; without one, the object itself.
    """
    loss = get_loss(loss)
    return loss.scaled(scale) if hasattr(loss, "scaled") else loss


def check_loss(loss, scale):
    """Raise an error for a loss whose reweighted steps could raise the objective.

    Parameters
    ----------
    loss : object
        With ``rho`` and ``weights``, ready for use.
    scale : float
        The loss is tried at 0 and on residuals from 0.001 to 100 times ``scale``.

    Examples
    --------
    >>> from kprojclust.losses import HuberLoss, check_loss
    >>> check_loss(HuberLoss(delta=1.0), scale=0.5)
    """
    scale = _check_positive(scale, "scale")
    residuals = np.concatenate([[0.0], scale * np.logspace(-3, 2, 500)])
    with np.errstate(all="ignore"):
        rho, weights = np.asarray(loss.rho(residuals)), loss.weights(residuals)
    weights = np.asarray(weights)
    if not rho.shape == weights.shape == residuals.shape:
        raise ValueError(
            f"loss={loss!r}: rho and weights must keep the shape {residuals.shape} of "
            f"the residuals. Got shapes {rho.shape} and {weights.shape}."
        )
    for rule, is_broken in _RULES.items():
        broken = np.flatnonzero(is_broken(residuals, rho, weights))
        if len(broken):
            at = broken[0]
            raise ValueError(
                f"loss={loss!r}: {rule}. Got rho={rho[at]:.6g} and "
                f"weights={weights[at]:.6g} at residual {residuals[at]:.6g}."
            )


def _breaks_tangent(residuals, rho, weights):
    """Where a chord of rho over r^2 is steeper or flatter than at both its ends."""
    # This holds across kinks too; the second slack is for rounding in rho at small r.
    steps = np.diff(residuals**2)
    slack = 1e-3 * weights[:-1] * steps + 1e-12 * rho[-1]
    rise = np.diff(rho)
    too_flat = rise < weights[1:] * steps - slack
    return too_flat | (rise > weights[:-1] * steps + slack)


_RULES = {
    "rho and weights must be finite": lambda r, rho, weights: (
        ~(np.isfinite(rho) & np.isfinite(weights))
    ),
    "rho(0) must be 0": lambda r, rho, weights: abs(rho[:1]) > 1e-12 * abs(rho[-1]),
    "rho must not decrease": lambda r, rho, weights: (
        rho < np.maximum.accumulate(rho) - 1e-12 * abs(rho[-1])
    ),
    "weights must not be negative": lambda r, rho, weights: weights < 0,
    "weights must not increase with the residual (rho must be concave in r^2)": (
        lambda r, rho, weights: weights > np.minimum.accumulate(weights) * (1 + 1e-6)
    ),
    "weights must be above 0 at 0": lambda r, rho, weights: weights[:1] == 0,
    "weights must be the derivative of rho by r^2, rho'(r) / (2 r)": _breaks_tangent,
}


def _check_positive(value, name):
    """Return the value as a Python float, which leaves float32 arrays float32."""
    if not isinstance(value, Real) or not 0 < float(value) < np.inf:
        raise ValueError(f"{name} must be positive and finite. Got {value!r}.")
    return float(value)
