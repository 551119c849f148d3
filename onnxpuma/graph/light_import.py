"""Import onnx_ir without sympy, which it needs for arithmetic with the names of dimensions alone.

sympy takes three quarters of a second to import, in every server, client and command. onnx_ir finds stand-ins
for it and for its own module that builds on it; they import the real ones at their first use.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

_LATER = ("sympy", "onnx_ir._symbolic_shapes")


class _Later(ModuleType):
    """Stands for a module until an attribute of it is read."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def import_onnx_ir() -> None:
    """Import onnx_ir and leave no stand-in where other imports would find it."""
    added = {name: _Later(name) for name in _LATER if name not in sys.modules}
    sys.modules.update(added)
    try:
        import_module("onnx_ir")
    finally:
        for name, module in added.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
