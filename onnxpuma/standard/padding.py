"""Padding in front of a decoder's cache, up to lengths at which one plan serves several tokens."""

from __future__ import annotations

from typing import Final

# A text that is read a token at a time has a multiple of so many keys, its own and those of padding: so many
# tokens have one length of the cache.
BLOCK: Final = 8
