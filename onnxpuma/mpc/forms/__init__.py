"""The forms of a secret value, all in one place to import from (docs/protocols.md, "Forms").

Replicated   P_i holds x_i and x_{i+1} of x = x_0 + x_1 + x_2: inputs, weights, results
Sum3         P_i holds z_i of z = z_0 + z_1 + z_2: a product before its first exchange
Split        the pivot holds A, both twins hold B, x = A + B
Pair         the twins hold y_u and y_v, y = y_u + y_v; the pivot holds nothing
Bit          as Pair, for bits, with xor

PublicWords is no form: public numbers that a protocol takes in words.
"""

from __future__ import annotations

from typing import TypeAlias

from onnxpuma.mpc.forms.form import Form, Layout
from onnxpuma.mpc.forms.public import PublicWords
from onnxpuma.mpc.forms.replicated import Replicated, Sum3, trivial, zeros
from onnxpuma.mpc.forms.several import chosen, joined, picked, stacked
from onnxpuma.mpc.forms.split import Bit, Pair, Split, see

Shares: TypeAlias = "Replicated | Sum3"  # a value between two steps

__all__ = [
    "Bit",
    "Form",
    "Layout",
    "Pair",
    "PublicWords",
    "Replicated",
    "Shares",
    "Split",
    "Sum3",
    "chosen",
    "joined",
    "picked",
    "see",
    "stacked",
    "trivial",
    "zeros",
]
