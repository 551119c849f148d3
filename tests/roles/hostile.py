"""A hostile client in a process of its own: python hostile.py '{"address": ..., "what": ...}'.

It prints "begun" once it has connected, and goes on until its standard input closes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any

import zmq

from onnxpuma.transport import wire_pb2

HELD: list[Any] = []


def connected(settings: dict[str, Any], context: zmq.Context[Any]) -> zmq.Socket[Any]:
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.curve_publickey, dealer.curve_secretkey = settings["public"].encode(), settings["secret"].encode()
    dealer.curve_serverkey = settings["server"].encode()
    dealer.connect(settings["address"])
    HELD.append(dealer)
    return dealer


def request(**fields: Any) -> bytes:
    return wire_pb2.ClientMessage(
        request=wire_pb2.Request(id=os.urandom(16), **fields), sizes=[]
    ).SerializeToString()


def frames(settings: dict[str, Any]) -> None:
    """One message of many frames of one size."""
    dealer = connected(settings, zmq.Context.instance())
    dealer.send(request())
    frame = bytes(settings["bytes"])
    dealer.send(request(), zmq.SNDMORE)
    for _ in range(settings["count"]):
        dealer.send(frame, zmq.SNDMORE)
    dealer.send(b"")


def unread(settings: dict[str, Any]) -> None:
    """Questions without end, whose answers it never reads."""
    dealer = connected(settings, zmq.Context.instance())
    dealer.rcvhwm = 1
    for _ in range(settings["count"]):
        dealer.send(request())


def connections(settings: dict[str, Any]) -> None:
    """Many connections of one key, some of which send a message."""
    context = zmq.Context()
    context.max_sockets = settings["count"] + 16
    held = [connected(settings, context) for _ in range(settings["count"])]
    for dealer in held[:: settings.get("speaks", 1)]:
        dealer.send(b"")


def silent(settings: dict[str, Any]) -> None:
    """Plain connections that send nothing at all."""
    host, port = settings["address"].removeprefix("tcp://").split(":")
    HELD.extend(socket.create_connection((host, int(port))) for _ in range(settings["count"]))


def knock(settings: dict[str, Any]) -> None:
    """One connection after the other, each with an unknown key."""
    context = zmq.Context()
    for _ in range(settings["count"]):
        public, secret = zmq.curve_keypair()
        dealer = connected({**settings, "public": public.decode(), "secret": secret.decode()}, context)
        time.sleep(0.005)
        dealer.close()


def main() -> None:
    settings = json.loads(sys.argv[1])
    globals()[settings["what"]](settings)
    print("begun", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
