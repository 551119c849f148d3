"""One server of a LocalCluster, in a process of its own that local/isolated.py starts.

It writes one line to its standard output: "ready" and its kernel, or an error as JSON. It ends when its
standard input closes, so it never outlives its parent, however the parent ended; it then also removes the
temporary folder, since nobody else may be left to do it.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import time
from pathlib import Path
from threading import Event, Thread

from onnxpuma.config import read_cluster
from onnxpuma.mpc.ring.native import native_level
from onnxpuma.roles.server.lasting import leave_uncollected
from onnxpuma.roles.server.seclusion import seclude
from onnxpuma.roles.server.server import Server
from onnxpuma.transport.curve import read_secret_key
from onnxpuma.transport.failure import failure_of
from onnxpuma.transport.signing import SUFFIX, SigningKey

LINGER_SECONDS = 3.0


def main(arguments: list[str]) -> int:
    """arguments: the temporary folder with cluster.toml and keys, the party's number and name, the model."""
    folder, party, name, model_dir = arguments
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.raiseExceptions = False  # a failure to log must not end the server
    seclude()
    stop = Event()
    Thread(target=_end_with_input, args=(stop, folder), daemon=True).start()
    try:
        keys = read_secret_key(Path(folder) / f"{name}.secret")
        signing = SigningKey.read(Path(folder) / f"{name}{SUFFIX}")
        config, ledger = read_cluster(Path(folder) / "cluster.toml"), Path(folder) / f"{name}.ledger"
        server = Server(int(party), config, keys, model_dir, signing=signing, ledger=ledger)
        server.serve(ready=_ready, stop=stop)
    except Exception as error:
        logging.getLogger("onnxpuma.roles").exception("server %s ends", party)
        failure = failure_of(error)
        _say(json.dumps({"error": failure.error, "message": failure.message, "hint": failure.hint}))
        return 1
    return 0


def _ready() -> None:
    leave_uncollected()
    _say(f"ready {native_level()}")


def _end_with_input(stop: Event, folder: str) -> None:
    while os.read(0, 4096):
        pass
    stop.set()
    shutil.rmtree(folder, ignore_errors=True)
    time.sleep(LINGER_SECONDS)
    os.kill(os.getpid(), signal.SIGKILL)


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")
