"""The EM loop of K-subspaces, from given labels to a local optimum.

It holds the problem, the assignment step (E), the update step (M) and the sufficient
statistics between them. Arrays in, arrays out: no estimator is known here. May import
`_rows`, `_geometry`, `_parallel` and `losses`.
"""
