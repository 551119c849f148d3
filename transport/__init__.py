"""How bytes travel between the three parties: whole, once, in step, and from whom they say."""

from __future__ import annotations

import logging

# A library writes nothing unless its user asks for it.
logging.getLogger("onnxpuma.transport").addHandler(logging.NullHandler())
