"""Small random graphs, run on shares and compared with double precision."""

import onnxpuma  # noqa: F401  (first: it ends what other libraries report)
