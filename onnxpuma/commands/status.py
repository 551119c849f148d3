"""status: how the three servers are, as a client sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onnxpuma.commands import options, screen
from onnxpuma.errors import OnnxpumaError

if TYPE_CHECKING:
    from onnxpuma.transport import wire_pb2

SOMEBODY_MISSING = 7  # as for errors of the network
WAIT_SECONDS = 5.0


def status(
    cluster: options.Cluster = Path("cluster.toml"),
    key: Annotated[
        Path | None,
        typer.Option(
            "--key",
            metavar="FILE",
            help="A client's .secret file; by default client.secret beside cluster.toml.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option("--wait", min=0.1, help="Seconds to wait for answers.")
    ] = WAIT_SECONDS,
    json: options.AsJson = False,
) -> None:
    """Show how each server is: up or not and why, its models, queue, peers and memory.

    Ends with status 7 if a server is down or cannot serve.
    """
    from onnxpuma.config import read_cluster
    from onnxpuma.roles.client.keys import client_keys
    from onnxpuma.transport.cluster import Cluster
    from onnxpuma.transport.line import Peer

    config = read_cluster(cluster)
    servers = [Peer(party.client_address, party.public_key) for party in config.parties]
    with Cluster(servers, client_keys(key, cluster), heartbeat=config.timeouts.heartbeat) as asked:
        answers = asked.status(wait)
    found = [
        _figures(number, party.name, party.client_address, answer)
        for number, (party, answer) in enumerate(zip(config.parties, answers, strict=True))
    ]
    if json:
        screen.say_json({"servers": found})
    else:
        _show(found)
    if not all(server["ready"] for server in found):
        raise typer.Exit(SOMEBODY_MISSING)


def _figures(party: int, name: str, address: str, answer: wire_pb2.Status | OnnxpumaError) -> dict[str, Any]:
    """What is known of one server."""
    known: dict[str, Any] = {"party": party, "name": name, "address": address}
    if isinstance(answer, OnnxpumaError):
        return {
            **known,
            "up": False,
            "ready": False,
            "state": "down",
            "why": answer.message,
            "hint": answer.hint,
        }
    return {
        **known,
        "up": True,
        "ready": answer.state in ("idle", "running"),
        "state": answer.state,
        "why": answer.detail,
        "version": answer.version,
        "models": [
            {"name": m.name, "digest": m.digest.hex(), "graphs": list(m.graphs)} for m in answer.models
        ],
        "peers": [{"party": p.party, "connected": p.connected, "version": p.version} for p in answer.peers],
        "plans": answer.plans,
        "waiting": answer.waiting,
        "running": answer.running,
        "connections": answer.connections,
        "kept_bytes": answer.kept_bytes,
        "memory_bytes": answer.memory_bytes,
        "uptime_seconds": answer.uptime_seconds,
        "latency_ms": 1e3 * answer.network.latency,
        "bandwidth_mbps": 1e-6 * answer.network.bandwidth,
    }


def _show(servers: list[dict[str, Any]]) -> None:
    heads = ("server", "state", "version", "up for", "queue", "running", "plans", "memory", "kept", "peers")
    rows = [(screen.plain(f"{s['party']} {s['name']}"), s["state"], *_cells(s)) for s in servers]
    screen.table(heads, rows)
    for server in servers:
        if server["why"]:
            hint = f" ({server['hint']})" if server.get("hint") else ""
            screen.say(f"server {server['party']}: {screen.plain(server['why'] + hint)}")
    served = {
        (model["name"], model["digest"]): model["graphs"] for s in servers for model in s.get("models", [])
    }
    for (name, digest), graphs in served.items():
        holders = [
            str(s["party"]) for s in servers if any(m["digest"] == digest for m in s.get("models", []))
        ]
        of = f", graphs {', '.join(graphs)}" if graphs else ""
        screen.say(
            f"model {screen.plain(name) or 'without a name'}: digest {digest[:16]} at server"
            f" {', '.join(holders)}{screen.plain(of)}"
        )
    for network in sorted({(s["latency_ms"], s["bandwidth_mbps"]) for s in servers if s["up"]}):
        screen.say(f"planned for a network of {network[0]:g} ms one way, {network[1]:g} Mbit/s")


def _cells(server: dict[str, Any]) -> tuple[str, ...]:
    if not server["up"]:
        return ("",) * 8
    seen = [f"{p['party']}{'' if p['connected'] else ' missing'}" for p in server["peers"]]
    return (
        screen.plain(server["version"]),
        _duration(server["uptime_seconds"]),
        str(server["waiting"]),
        str(server["running"]),
        str(server["plans"]),
        f"{server['memory_bytes'] / 1e6:.0f} MB",
        f"{server['kept_bytes'] / 1e6:.0f} MB",
        ", ".join(seen),
    )


def _duration(seconds: float) -> str:
    minutes, hours, days = seconds / 60, seconds / 3600, seconds / 86400
    if days >= 2:
        return f"{days:.0f} d"
    return f"{hours:.0f} h" if hours >= 2 else f"{minutes:.0f} min" if minutes >= 2 else f"{seconds:.0f} s"
