"""Ways to make the matrix of a layer smaller, one file a method.

Each method says which layers it takes, what the result costs and how it is fitted;
`registry` lists them. `clustering` is the one door to kprojclust. May import `layers`,
`calibration.statistics` and `configs`; knows no model.
"""
