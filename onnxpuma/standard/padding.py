"""Padding in front of a decoder's cache, up to lengths at which one plan serves several tokens."""

from __future__ import annotations

from typing import Final

# A decoder that reads one token fills its cache up so that there is a multiple of these keys.
BLOCK: Final = 8
