"""One party in a process of its own, for tests that kill or stop it.

The process gets its settings as a JSON object. It reads one command a line and prints one line for each:
`exchange SESSION` sends to both peers and receives from both, `flood SESSION MEGABYTES` only sends,
`quit` closes in an orderly way.
"""

from __future__ import annotations

import json
import sys

from onnxpuma.errors import OnnxpumaError
from onnxpuma.transport.curve import KeyPair
from onnxpuma.transport.link import Tag
from onnxpuma.transport.zeromq import Peer, PeerLink


def main() -> None:
    settings = json.loads(sys.argv[1])
    party = settings["party"]
    peers = {i: Peer(settings["addresses"][i], settings["public_keys"][i]) for i in range(3) if i != party}
    keys = KeyPair(settings["public_keys"][party], settings["secret_key"])
    link = PeerLink(party, keys, settings["addresses"][party], peers, timeout=10, **settings["options"])
    link.connect(10)
    print("connected", flush=True)
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        tag = Tag(bytes.fromhex(words[0]), 0, 0, command)
        try:
            if command == "exchange":
                for peer in peers:
                    link.send(peer, tag, [b"words"])
                for peer in peers:
                    link.receive(peer, tag)
            else:
                for peer in peers:
                    link.send(peer, tag, [bytes(int(words[1]) * 1_000_000)])
            print("done", flush=True)
        except OnnxpumaError as error:
            print(type(error).__name__, flush=True)
    link.close()


if __name__ == "__main__":
    main()
