import pytest

from keras_messi import MessiConfig
from tests import reference

# The values of j that the paper prints in Table 1 for DistilBERT's 30522 x 768 table.
# For (40 %, k = 7) it prints 392, which is one above what its own formula gives.
TABLE_1 = [
    (20, 4, 558),
    (20, 5, 545),
    (20, 7, 522),
    (40, 3, 428),
    (40, 4, 418),
    (40, 5, 409),
    (40, 6, 400),
    (40, 7, 391),
    (50, 5, 341),
    (50, 6, 333),
    (50, 7, 326),
]


@pytest.mark.parametrize(("percent", "k", "j"), TABLE_1)
def test_ranks_are_those_of_the_paper(percent, k, j):
    assert MessiConfig(rate=percent / 100, num_clusters=k).rank_for(30522, 768) == j
    assert reference.paper_rank(percent, 30522, 768, k) == j


@pytest.mark.parametrize(
    ("k", "j", "percent"),
    [(5, 517, 27.5), (10, 451, 32.3), (5, 384, 46.2), (10, 384, 42.4)],
)
def test_rates_of_roberta_are_those_of_the_paper(k, j, percent):
    n, d = 50265, 768
    rate = 1 - j * (n + k * d) / (n * d)
    assert round(100 * rate, 1) == percent
    assert MessiConfig(rate=rate - 1e-5, num_clusters=k).rank_for(n, d) == j


@pytest.mark.parametrize("percent", range(5, 100, 5))
@pytest.mark.parametrize("k", [1, 3])
def test_rank_is_the_largest_that_fits(percent, k):
    config = MessiConfig(rate=percent / 100, num_clusters=k)
    for n, d in ((100, 100), (784, 300), (7, 3)):
        assert config.rank_for(n, d) == reference.paper_rank(percent, n, d, k)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rate": 0}, "`rate` .* between 0 and 1. Received: rate=0"),
        ({"rate": 1.0}, "Received: rate=1.0"),
        ({"rate": -0.5}, "Received: rate=-0.5"),
        ({"rate": float("nan")}, "Received: rate=nan"),
        ({"rate": "0.5"}, "`rate` must be a number"),
        ({}, "Exactly one of `rate` and `rank`"),
        ({"rate": 0.5, "rank": 3}, "Exactly one of `rate` and `rank`"),
        ({"rank": 0}, "`rank` must be an integer of at least 1. Received: rank=0"),
        ({"rate": 0.5, "num_clusters": 0}, "Received: num_clusters=0"),
        ({"rate": 0.5, "num_clusters": 2.0}, "Received: num_clusters=2.0"),
        ({"rate": 0.5, "num_clusters": True}, "Received: num_clusters=True"),
        (
            {"rate": 0.5, "num_clusters": "all"},
            'or "auto". Received: num_clusters=.all',
        ),
        (
            {"rate": 0.5, "max_clusters": 0},
            "`max_clusters` must be an integer of at least 1. Received: max_clusters=0",
        ),
        ({"rate": 0.5, "seed": -1}, "`seed` must be"),
        ({"rate": 0.5, "sequential": "yes"}, "`sequential` must be one of False, True"),
        ({"rate": 0.5, "ranks": "equal"}, "`ranks` must be one of 'budget', 'uniform'"),
        ({"rate": 0.5, "scope": "net"}, "`scope` must be one of .* scope='net'"),
        ({"rate": 0.5, "quantization": "int2"}, "None, 'int8', 'int4'. .*'int2'"),
        ({"rate": 0.5, "clustering": "em"}, "`clustering` must be one of"),
        (
            {"rate": 0.5, "scope": "model", "ranks": "uniform"},
            "`scope='model'` takes a rate and `ranks=\"budget\"`",
        ),
        ({"rank": 5, "scope": "model"}, "`scope='model'` takes a rate"),
        ({"rate": 0.5, "clustering": "k-means"}, 'takes `ranks="uniform"`'),
        (
            {"rank": 2, "clustering": "k-means", "loss": "l1"},
            "`clustering='k-means'` takes `loss=\"squared\"`. Received: loss='l1'",
        ),
    ],
)
def test_bad_values_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        MessiConfig(**arguments)
