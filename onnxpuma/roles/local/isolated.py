"""A Python process that runs this very package, and no stray file of the user's folder.

Python searches the current folder, or the script's, first: a stray `random.py` or `onnx.py` there would run
inside the process, and a checkout would hide the installed package. So the process starts isolated (-I: no
current folder, no PYTHON* variables). It loads this package from where it is loaded here, other modules from
the standard library first and then from where this process finds them, without those two folders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import onnxpuma

_START = """
import json, sys, sysconfig
from importlib import import_module, util
module, init, inside, paths = json.loads(sys.argv.pop(1))
library = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
library += [folder + "/lib-dynload" for folder in library]
sys.path[:] = dict.fromkeys([*(path for path in sys.path if path in library), *paths, *sys.path])
spec = util.spec_from_file_location("onnxpuma", init, submodule_search_locations=inside)
sys.modules["onnxpuma"] = util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["onnxpuma"])
sys.exit(import_module(module).main(sys.argv[1:]))
"""


def start(module: str, arguments: Sequence[str], folder: Path, log: IO[bytes]) -> subprocess.Popen[bytes]:
    """Call `main(arguments)` of `module`, one of this package, in a process of its own.

    folder: an empty one to run in. log: receives its stderr; stdin and stdout are pipes. The process has a
    session of its own, so Ctrl-C at the terminal reaches only its parent. It may fetch nothing from a hub.
    """
    package = [os.path.abspath(onnxpuma.__file__), [os.path.abspath(path) for path in onnxpuma.__path__]]
    flags = ["-I", "-X", f"utf8={sys.flags.utf8_mode}", *["-B"] * bool(sys.dont_write_bytecode)]
    return subprocess.Popen(
        [sys.executable, *flags, "-c", _START, json.dumps([module, *package, _paths()]), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        start_new_session=True,
    )


def _paths() -> list[str]:
    """Where this process looks for modules, without the current folder and the script's."""
    main = sys.modules.get("__main__")
    by_name = getattr(main, "__spec__", None) is not None  # python -m: its folder holds installed packages
    script = None if by_name else getattr(main, "__file__", None)
    left_out = {_current(), _STARTED_IN, os.path.dirname(os.path.realpath(script)) if script else None}
    return [path for path in sys.path if os.path.isabs(path) and os.path.realpath(path) not in left_out]


def _current() -> str | None:
    try:
        return os.path.realpath(os.getcwd())
    except OSError:  # it was removed
        return None


_STARTED_IN = _current()
