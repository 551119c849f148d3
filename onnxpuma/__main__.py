"""`python -m onnxpuma` is `onnxpuma`."""

from __future__ import annotations

import os
import sys

# Python puts the current folder first on the path. Remove it: no file there is part of the program.
if sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]

from onnxpuma.cli import main

if __name__ == "__main__":
    main()
