"""A storm: the same workload through the stock processor and through otel-shed, each to a collector held to a rate.

Two programs: ``program.py`` makes the traces, with ``shapes.py``, ``sides.py`` and ``calls.py``, and ``limited.py`` is
the collector. What they tell (``testimony.py``) is gathered by ``run.py`` and comes to figures (``figures.py``), which
``table.py`` prints.
"""
