import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from kprojclust.losses import (
    LOSSES,
    CauchyLoss,
    GemanMcClureLoss,
    HuberLoss,
    LqLoss,
    SquaredLoss,
    TruncatedLoss,
    TukeyLoss,
    WelschLoss,
    check_loss,
    get_loss,
    ready,
)

LQ = [LqLoss(q=0.5, delta=0.2), LqLoss(q=1, delta=0.2), LqLoss(q=2, delta=0.2)]
REDESCENDING = [
    GemanMcClureLoss(delta=0.8),
    WelschLoss(delta=0.8),
    TukeyLoss(delta=2),
    TruncatedLoss(delta=1.5),
]
NORMALISED = [SquaredLoss(), HuberLoss(delta=0.8), CauchyLoss(0.8), *REDESCENDING]
ALL = [*NORMALISED, *LQ]
TUNED = [HuberLoss, CauchyLoss, GemanMcClureLoss, WelschLoss, TukeyLoss, TruncatedLoss]

RESIDUALS = np.linspace(0, 4, 401)

every_loss = pytest.mark.parametrize("loss", ALL, ids=repr)


@every_loss
def test_rho_starts_at_zero_and_never_falls(loss):
    rho = loss.rho(RESIDUALS)
    assert rho[0] == 0
    assert np.all(np.diff(rho) >= -1e-15)


@every_loss
def test_weights_are_the_derivative_of_rho_by_the_squared_residual(loss):
    delta = loss.get_params().get("delta", 0)
    residuals = RESIDUALS[np.abs(RESIDUALS - delta) > 0.005][1:]
    step = 1e-5 * residuals**2
    above, below = np.sqrt(residuals**2 + step), np.sqrt(residuals**2 - step)
    slopes = (loss.rho(above) - loss.rho(below)) / (2 * step)
    assert_allclose(loss.weights(residuals), slopes, rtol=1e-6, atol=1e-8)


@every_loss
def test_weights_never_rise_and_are_never_negative(loss):
    weights = loss.weights(RESIDUALS)
    assert np.all(np.diff(weights) <= 1e-15)
    assert weights.min() >= 0


@every_loss
def test_rho_lies_below_its_tangent_over_the_squared_residual(loss):
    rng = np.random.default_rng(0)
    residuals, at = 4 * rng.random((2, 1000))
    tangent = loss.rho(at) + loss.weights(at) * (residuals**2 - at**2)
    assert np.all(loss.rho(residuals) <= tangent + 1e-12)


@every_loss
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (0,), (3, 2)])
def test_shape_and_dtype_are_kept(loss, dtype, shape):
    residuals = np.full(shape, 1.5, dtype=dtype)
    for values in (loss.rho(residuals), loss.weights(residuals)):
        assert values.shape == shape
        assert values.dtype == dtype


@pytest.mark.parametrize("loss", [LqLoss, HuberLoss, TruncatedLoss])
def test_float32_is_kept_by_parameters_of_float64(loss):
    loss = loss(delta=np.float64(0.5))
    assert loss.rho(np.ones(3, dtype=np.float32)).dtype == np.float32
    assert loss.weights(np.ones(3, dtype=np.float32)).dtype == np.float32


@pytest.mark.parametrize("loss", NORMALISED, ids=repr)
def test_small_residuals_are_squared(loss):
    assert loss.weights(np.zeros(1)) == 1
    assert_allclose(loss.rho(np.array([1e-6])), 1e-12, rtol=1e-6)


@pytest.mark.parametrize("loss", REDESCENDING, ids=repr)
def test_redescending_losses_let_go_of_far_rows(loss):
    far, further = np.array([1e4]), np.array([1e5])
    assert_allclose(loss.rho(far), loss.rho(further), rtol=1e-7)
    assert_allclose(loss.weights(far), 0, atol=1e-12)


def test_l1_is_the_residual_and_q_2_its_square():
    residuals = np.array([0.5, 1, 3])
    assert_allclose(LqLoss(delta=1e-9).rho(residuals), residuals, atol=1e-8)
    assert_allclose(LqLoss(q=2, delta=1).rho(residuals), residuals**2, rtol=1e-15)


@pytest.mark.parametrize("loss", TUNED)
def test_tuning_gives_95_percent_efficiency_on_gaussian_residuals(loss):
    residuals = np.linspace(0, 12, 200_001)
    density = np.exp(-(residuals**2) / 2)
    psi = residuals * loss().scaled(1).weights(residuals)
    squares = density @ residuals**2 * (density @ psi**2)
    assert (density @ (residuals * psi)) ** 2 / squares == pytest.approx(0.95, abs=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_scaled_returns_a_tuned_copy_and_keeps_the_original(name):
    loss = get_loss(name)
    before = loss.get_params()
    scaled = loss.scaled(np.float32(2))
    assert loss.get_params() == before
    if name == "squared":
        assert scaled is loss
    else:
        assert type(scaled) is type(loss)
        assert scaled.delta == 2 * loss.tuning


@pytest.mark.parametrize("name", LOSSES)
def test_scaled_losses_scale_with_the_data(name):
    near, far = get_loss(name).scaled(1), get_loss(name).scaled(8)
    ratio = far.rho(8 * RESIDUALS[1:]) / near.rho(RESIDUALS[1:])
    assert_allclose(ratio, ratio[0], rtol=1e-9)


@every_loss
def test_losses_are_scikit_learn_objects(loss):
    copy = clone(loss)
    assert copy is not loss
    assert copy.get_params() == loss.get_params()
    assert eval(repr(copy)).get_params() == loss.get_params()
    assert loss.scaled(3) is loss


@pytest.mark.parametrize("name", LOSSES)
def test_names_lead_to_losses_that_pass_the_check(name):
    for scale in (1e-6, 1, 1e6):
        check_loss(ready(name, scale), scale)


@every_loss
def test_every_loss_passes_the_check_at_any_scale(loss):
    for scale in (0.01, 1, 100):
        check_loss(loss, scale)


class Own:
    def __init__(self, rho, weights):
        self.rho, self.weights = rho, weights


def test_own_losses_need_no_base_class():
    own = Own(np.square, np.ones_like)
    assert get_loss(own) is own
    assert ready(own, 3) is own
    check_loss(own, 3)


def test_a_plainly_written_loss_passes_the_check_despite_rounding():
    own = Own(
        lambda r: 2 * (np.sqrt(1 + r**2) - 1),
        lambda r: 1 / np.sqrt(1 + r**2),
    )
    for scale in (0.001, 1, 1000):
        check_loss(own, scale)


BROKEN = {
    "must not increase .*concave": Own(lambda r: r**3, lambda r: 1.5 * r),
    "concave": Own(lambda r: r**2 + r**4, lambda r: 1 + 2 * r**2),
    "derivative of rho": Own(np.square, lambda r: 2 * np.ones_like(r)),
    "above 0 at 0": Own(np.zeros_like, np.zeros_like),
    "be negative": Own(np.square, lambda r: 1 - r),
    "must be finite": Own(lambda r: r, lambda r: 1 / (2 * r)),
    r"rho\(0\) must be 0": Own(lambda r: 1 + r**2, np.ones_like),
    "rho must not decrease": Own(lambda r: -(r**2), np.ones_like),
    "keep the shape": Own(np.sum, np.ones_like),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_check_names_the_broken_rule(rule):
    with pytest.raises(ValueError, match=rule):
        check_loss(BROKEN[rule], 1)


@pytest.mark.parametrize("loss", NORMALISED[1:], ids=repr)
def test_check_refuses_weights_of_another_delta(loss):
    other = clone(loss).set_params(delta=1.1 * loss.delta)
    with pytest.raises(ValueError, match="derivative of rho"):
        check_loss(Own(loss.rho, other.weights), 1)


def test_check_shows_where_the_rule_is_broken():
    with pytest.raises(ValueError, match="weights=-1 at residual 0"):
        check_loss(Own(np.square, lambda r: -np.ones_like(r)), 1)


@pytest.mark.parametrize("q", [0, -1, 2.1, np.nan, np.inf, "1", None])
def test_bad_q_is_named(q):
    for use in (lambda loss: loss.scaled(1), lambda loss: loss.rho(RESIDUALS)):
        with pytest.raises(ValueError, match="q must be above 0 and at most 2.*majori"):
            use(LqLoss(q=q, delta=1))


@pytest.mark.parametrize("loss", [LqLoss, *TUNED])
@pytest.mark.parametrize("delta", [0, -1, np.nan, np.inf, "1"])
def test_bad_delta_is_named(loss, delta):
    loss = loss(delta=delta)
    for use in (loss.scaled, loss.rho, loss.weights):
        with pytest.raises(ValueError, match="delta must be positive and finite. Got"):
            use(np.float64(1))


@pytest.mark.parametrize("scale", [0, -1, np.nan])
def test_bad_scale_is_named(scale):
    for use in (HuberLoss().scaled, lambda scale: check_loss(SquaredLoss(), scale)):
        with pytest.raises(ValueError, match="scale must be positive"):
            use(scale)


def test_a_loss_without_delta_says_how_to_set_it():
    with pytest.raises(ValueError, match=r"scaled\(scale\).*Got HuberLoss\(\)"):
        HuberLoss().rho(RESIDUALS)


def test_unknown_losses_are_refused_with_the_list():
    with pytest.raises(ValueError, match="must be one of .*'tukey'.* Got 'hubr'"):
        get_loss("hubr")
    with pytest.raises(ValueError, match="class HuberLoss, not an object"):
        get_loss(HuberLoss)


def test_the_missing_method_is_named():
    with pytest.raises(ValueError, match="which has no weights"):
        get_loss(Own(np.square, None))
    with pytest.raises(ValueError, match="Got None, which has no rho and no weights"):
        get_loss(None)


def test_names_make_new_objects():
    assert get_loss("huber") is not get_loss("huber")
    assert_array_equal(get_loss("squared").rho(RESIDUALS), RESIDUALS**2)
