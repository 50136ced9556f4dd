"""``lstsq conformance``: holds backends to the contract.

The files, in reading order:

`suite`, `recorder`
    Runs the suite in another process, whose pytest plugin reports each test.
`tables`, `page`
    The support matrix of it, in the terminal and as a page.
"""
