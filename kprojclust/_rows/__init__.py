"""Where rows come from: arrays, memory maps, files and Dask, validated and in blocks.

The EM loop sees one interface, whatever holds the rows. May import `_parallel`.
"""
