"""The rows of the contract, each with the name that tests, failures and the support matrix call it by."""

from __future__ import annotations

ROWS = {
    "shapes": "x (..., N) for a vector b, else (..., N, K); residuals (..., 1) or (..., K); rank (...); "
    "s (..., min(M, N)); batch dimensions broadcast",
    "solution": "least squares of minimum norm, for every shape and every rank",
    "residuals": "the sum of squares of b - a x for each right-hand side, always; numpy_resid=True gives NumPy's",
    "singular values": "s is real and descending, and as accurate as its dtype allows; singular_values=False leaves it "
    "out, as None, and changes nothing else",
    "cutoff": "a singular value is zero iff s <= rcond * s_max; rcond=None is eps * max(M, N) in double precision and "
    "eps * min(max(M, N), 16) in single; rcond < 0 is eps / 2",
    "dtypes": "a and b are promoted to one floating dtype: integers to the default float, half precision to float32; "
    "s and residuals are real, rank is an integer",
    "arithmetic": "float32 and complex64 are solved in double precision where the backend claims it",
    "namespaces": "results are of the input's library and on its device; two libraries or two devices mixed are "
    "refused; backend=... converts back",
    "empty": "M = 0, N = 0, K = 0 and empty batches work as NumPy's do",
    "batch": "every batch element is solved as if it were alone",
    "nonfinite": "NaN or inf in a: LinAlgError, or NaN and rank 0 in that batch element alone; in b: NaN in x and "
    "residuals of that right-hand side alone",
    "residual": "lstsq.residual(a, x, b) is b - a x, computed in double precision where the library has it, without "
    "overflow on the way",
    "deficiency": 'on_deficient="warn" and "raise" tell of a rank below min(M, N), for arrays with numbers',
    "weights": "a weight for each row: x and residuals are those of the weighted sum of squares, rank and s those "
    "of the rows times the roots of the weights; a zero drops its row; rows of small weights keep their digits",
    "ridge": "the sum of ridge * |x|^2 is added to what is minimised; residuals, rank and s stay those of the data",
    "rows in blocks": "rows reduced block by block, of any size and in any order, give the answer for all of them",
    "pinv": "pinv(a) is the solution for an identity, (..., N, M), with the cutoff, dtypes and derivatives of lstsq",
    "factorisation": "factorize(a) solves and tells as lstsq does, from one decomposition, with the same cutoff, "
    "dtypes and derivatives",
    "drivers": "svd on every backend; gelsd where there is LAPACK's; any other name is refused with the list",
    "errors": "LinAlgError for bad shapes, ValueError for an unknown driver or backend: got, expected, what to do",
    "lazy": "under jit the answer is the eager answer",
    "transforms": "every claimed transformation, and their compositions, equal the loop or the eager call",
    "gradients": "derivatives of x, residuals and s with respect to a and b, at constant rank, full or deficient, "
    "equal and truncated singular values included",
}
