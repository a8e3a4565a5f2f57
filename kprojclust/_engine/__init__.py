"""The EM loop of K-subspaces, from given labels to a local optimum.

It holds the problem, the assignment step, the update step and the sufficient statistics
between them. Arrays in, arrays out: no estimator is known here. May import `_rows`,
`_geometry`, `_parallel` and `losses`.
"""
