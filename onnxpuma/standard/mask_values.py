"""Every number that stands for a mask, or tells one: in the files of models, and in words.

A mask is a number that is added to scores, or chosen in their place, to leave a position out. Exporters write
-10000, -65504, -1e9, the lowest float or minus infinity. Fixed point needs no more than to be far enough.
"""

from __future__ import annotations

from typing import Final

import numpy as np

# -- as models write them -----------------------------------------------------------------------------------

# Beside zeros, or in a place where scores are left out, a number from here down is a mask: it is the highest
# that exporters write, and what onnxruntime's operators add where nothing else is given.
MASKED: Final = -1e4
# A number below it is a mask whatever stands beside it: no weight and no score is so large.
SURELY_MASKED: Final = -1e8
# The lowest float: a Where puts it, or minus infinity, in the place of scores.
LOWEST_FLOAT: Final = float(np.finfo(np.float32).min)
# The largest float of each kind: masks are filled with it or its negative, so that it is no trained number.
LARGEST_FLOATS: Final = (
    float(np.finfo(np.float16).max),
    float(np.finfo(np.float32).max),
    3.3895313892515355e38,  # bfloat16
)

# -- as a secret weight stores them -------------------------------------------------------------------------

# Far below scores, yet three of them and the scores stay inside what Softmax can tell apart.
STORED: Final = -2500.0
# Where no softmax reads it: far below values, and no lower number is told from it.
STORED_AS_NUMBER: Final = -(2.0**21)

# -- public numbers beside a secret value (ops/beside.py) ---------------------------------------------------

NOTICED: Final = 64.0  # smaller ones go straight into words
FAR: Final = 2.0**23  # what is multiplied lies nearer
OUT: Final = 2.0**41  # what is compared, or read by an activation, lies nearer
LARGEST: Final = 2.0**40  # words hold this for infinity, and half of it at most for a finite number
INFINITE: Final = 2.0**43  # nothing that is added to a number beyond it counts
BEYOND_SCALES: Final = 2.0**20  # a factor beyond it makes a mask

# -- numbers that a secret condition chooses (ops/reach.py) -------------------------------------------------

MASKING: Final = 512.0  # from here on such a number counts as a mask, which reaches far
MASK: Final = 2.0**14  # a Softmax needs masked scores this far out: scores lie nearer
MOST_REACH: Final = 2.0**17  # a secret mask that may reach further is brought up before a Softmax reads it
GIVEN: Final = 2.0**21  # minus infinity in a mask that a client gives to others than softmaxes
UNREAD: Final = 2.0**22  # an operator that knows nothing of masks takes nothing this far out
DROWNING: Final = 2.0**29  # beside it scores do not count: single precision has steps of 64 there

# -- rows that a secret mask leaves nothing (plan/walk/undefined.py) ----------------------------------------

BOTTOM: Final = 0.6  # of minus infinity's distance: finite numbers reach half of it at most
DROWNED: Final = 0.45  # of the same: at or below it, single precision keeps nothing of the scores
