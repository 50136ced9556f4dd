"""``lstsq compare``: one problem, what each solver says to it, and how good that is.

The files, in reading order:

`measure`, `peak`
    Answers and times; memory.
`metrics`
    How good an answer is.
`comparison`
    All of it in one object.
`tables`, `plots`, `page`
    In the terminal; as plots; as a page.
"""
