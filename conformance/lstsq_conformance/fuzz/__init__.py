"""Random problems by the million, each driver's answers held against a decomposition in extended precision.

``python -m lstsq_conformance.fuzz --help`` says how to run it. `problems` draws, `judge` decides, `shrink` makes what
failed small, `kept` writes it down for the next run.
"""
