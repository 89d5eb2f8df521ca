"""Products of matrices."""

import numpy as np


def unwarned() -> np.errstate:
    """Decorate what multiplies matrices: NumPy on ARM, Apple's above all, warns there of what did not happen.

    See https://github.com/numpy/numpy/issues/28687: the results are right.
    """
    return np.errstate(divide="ignore", over="ignore", invalid="ignore")
