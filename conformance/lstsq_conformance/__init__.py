"""A suite that any backend of `lstsq` must pass, ours or a stranger's, and the problems that it is made of.

Run it with ``pytest --pyargs lstsq_conformance --lstsq-backend NAME``. The files, in reading order:

`rows`
    The rows of the contract, by name. Every test says which one it proves.
`cases`
    The registry of tagged problems. The benchmarks draw from it too: nothing is timed that is not verified.
`nist`
    Problems on measured data, with certified answers.
`reference`
    What the right answer is, in NumPy, in double precision, and by a path of its own.
`reference_extended`, `pairs`
    The same to thirty digits, where double precision does not decide.
`ratios`
    How far an answer is from it, as scale-free numbers that a backward stable solver keeps below 30.
`sensitivity`, `ranges`
    What rounding may do to one given problem, and what is right where the range of a dtype ends.
`target`
    The backend under test: NumPy arrays in, NumPy arrays out.
`plugin`, `generation`
    The pytest options, and the step that turns cases and claims into tests.
`test_*`
    The tests, one file for each part of the contract.
`fuzz`
    The same judgement on problems that are drawn at random, by the million.
"""
