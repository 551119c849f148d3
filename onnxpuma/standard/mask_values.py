"""Every number that stands for a mask, or by which one is recognised: in model files, and in words.

A mask is a number that is added to scores, or chosen in their place, to leave a position out. Exporters write
-10000, -65504, -1e9, the lowest float or minus infinity. In fixed point a mask need only lie far enough out.
"""

from __future__ import annotations

from typing import Final

import numpy as np

# -- as models write them ------------------------------------------------------------------------------------

# Beside zeros, or in a place where scores are left out, a number at or below this is a mask: it is the
# highest that exporters write, and the one that onnxruntime's operators add by default.
MASKED: Final = -1e4
# A number below it is a mask whatever stands beside it: no weight and no score is so large.
SURELY_MASKED: Final = -1e8
# The lowest float: a Where puts it, or minus infinity, in place of scores.
LOWEST_FLOAT: Final = float(np.finfo(np.float32).min)
# The largest float of each kind: masks are filled with it or its negative, so that it is no trained number.
LARGEST_FLOATS: Final = (
    float(np.finfo(np.float16).max),
    float(np.finfo(np.float32).max),
    3.3895313892515355e38,  # bfloat16
)

# -- as a secret weight stores them --------------------------------------------------------------------------

# Far below scores, yet the sum of three of them and a score stays in the range that Softmax reads.
STORED: Final = -2500.0
# Where no softmax reads it: far below values, so that a reader need not distinguish lower numbers from it.
STORED_AS_NUMBER: Final = -(2.0**21)

# -- public numbers beside a secret value (ops/beside.py) ----------------------------------------------------

NOTICED: Final = 64.0  # smaller ones go straight into words
FAR: Final = 2.0**23  # operands of products lie nearer to zero
OUT: Final = 2.0**41  # operands of comparisons and activations lie nearer to zero
LARGEST: Final = 2.0**40  # stands for infinity in words, where a finite number is at most half of it
INFINITE: Final = 2.0**43  # an addend does not count beside a number beyond it
BEYOND_SCALES: Final = 2.0**20  # a factor beyond it creates a mask

# -- numbers that a secret condition chooses (ops/reach.py) --------------------------------------------------

MASKING: Final = 512.0  # such a number counts as a mask if it is at least this far out
MASK: Final = 2.0**14  # a Softmax needs masked scores this far out: scores lie nearer
MOST_REACH: Final = 2.0**17  # a secret mask that may reach further is brought up before a Softmax reads it
GIVEN: Final = 2.0**21  # stands for minus infinity in a client's mask that no softmax reads
UNREAD: Final = 2.0**22  # an operator that knows no masks accepts no operand this far out
DROWNING: Final = 2.0**29  # beside it scores drown, as single precision has steps of 64 there

# -- rows that a secret mask empties (plan/walk/undefined.py) ------------------------------------------------

BOTTOM: Final = 0.6  # of minus infinity's distance: finite numbers reach half of it at most
DROWNED: Final = 0.45  # of the same: at or below it, single precision keeps nothing of the scores
