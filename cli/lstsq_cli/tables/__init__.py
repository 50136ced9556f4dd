"""Tables from files, block by block: what is read, which columns are taken, and what is wrong with a cell.

The files, in reading order:

`reading`
    How the user wants a table read: the options of the commands that take FILEs.
`table`
    What a table of every format can do.
`cells`, `faults`
    Cells as numbers; and those that are none, gathered into one message.
`text`, `arrow`, `arrays`
    The formats: CSV; Parquet, Arrow and Feather; .npy and .npz.
`sources`
    Which format a FILE is in; what comes from standard input.
`layout`
    Which columns are the matrix, the target and the weights.
`dataset`
    One or several FILEs as blocks of rows of a problem.

Text is parsed, and Parquet, Arrow and Feather are read, by pyarrow.
"""
