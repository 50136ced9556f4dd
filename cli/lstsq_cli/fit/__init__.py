"""``lstsq fit``: one least-squares problem whose rows are in files, solved in blocks.

`estimate`
    The coefficients, their standard errors, and columns that depend on each other.
`terminal`, `page`
    How they are shown.
"""
