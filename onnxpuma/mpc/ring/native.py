"""The kernel that computes on ring words, compiled for a level of the processor or numpy; its threads."""

from __future__ import annotations

import importlib
import os
import warnings
from typing import Any

from onnxpuma.errors import ConfigError


def _load() -> Any:
    if os.environ.get("ONNXPUMA_NO_NATIVE", "0") not in ("", "0"):
        return None
    try:
        return importlib.import_module("onnxpuma.mpc.ring._ring")
    except ImportError:
        return None


def _threads_wanted() -> int:
    text = os.environ.get("ONNXPUMA_THREADS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"ONNXPUMA_THREADS is {text!r}", "set it to a number of threads, 1 or more")
    return int(text)


_built: Any = _load()  # the extension module; None where it is missing
_native: Any = _built  # the same; None where numpy was chosen
_threads = 1
_warned = False


def native() -> Any:
    """The extension module; None where numpy computes."""
    return _native


def native_level() -> str:
    """The kernel in use: "amx", "avx512", "avx2" or "baseline" (compiled), or "numpy"."""
    return str(_native.level()) if _native is not None else "numpy"


def native_levels() -> list[str]:
    """The names that `set_native_level` takes on this machine, the fastest first and "numpy" last."""
    return [*(_built.levels() if _built is not None else []), "numpy"]


def set_native_level(level: str) -> None:
    """Choose the kernel of the whole process, for tests and measurements."""
    global _native
    if level not in native_levels():
        raise ConfigError(f"no kernel {level!r} here", "choose one of " + ", ".join(native_levels()))
    if level != "numpy":
        _built.set_level(level)
    _native = _built if level != "numpy" else None


def threads() -> int:
    """The most threads of a product, or of a loop over many words: 1 unless ONNXPUMA_THREADS or `set_threads`
    changes it."""
    return _threads


def set_threads(count: int) -> None:
    """Let a product, or a loop over many words, use up to `count` threads, which it starts and ends."""
    global _threads
    if count < 1:
        raise ConfigError(f"{count} threads for ring arithmetic", "ask for 1 or more")
    _threads = count
    if _built is not None:
        _built.set_threads(count)


def warn_once() -> None:
    """Warn once in a process that products are slow."""
    global _warned
    if _warned:
        return
    _warned = True
    warnings.warn(
        "the compiled kernel onnxpuma.mpc.ring._ring is missing or switched off: numpy computes ring"
        " products, many times slower; reinstall onnxpuma with a C++17 compiler at hand",
        RuntimeWarning,
        stacklevel=2,
    )


set_threads(_threads_wanted())
