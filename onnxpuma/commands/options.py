"""Options that several commands share, and the parsers of their texts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from onnxpuma.errors import ConfigError

if TYPE_CHECKING:
    from onnxpuma.config import NetworkConfig


def _patterns(flag: str, text: str) -> Any:
    """An option that takes patterns of names and may be repeated."""
    return typer.Option(flag, metavar="PATTERN", help=text, show_default=False)


Model: TypeAlias = Annotated[
    Path, typer.Argument(metavar="MODEL.onnx", help="The ONNX model.", show_default=False)
]
Models: TypeAlias = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="An ONNX file, or a folder of the ONNX files that form one model.",
        show_default=False,
    ),
]
Cluster: TypeAlias = Annotated[
    Path, typer.Option("--cluster", metavar="FILE", help="The cluster.toml that all machines share.")
]
Key: TypeAlias = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="Your .secret file from keygen.", show_default=False)
]
Signing: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cluster",
        metavar="FILE",
        help="cluster.toml, to check whose signatures they are.",
        show_default=False,
    ),
]
Receipts: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--receipts", metavar="DIR", help="Store the receipt of each run as SESSION.json.", show_default=False
    ),
]
AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, for a program.")]
Dimensions: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--dim",
        metavar="NAME=SIZE",
        help="Size of a dynamic dimension; may be repeated.",
        show_default=False,
    ),
]
Ranges: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--range",
        metavar="NAME=LOW:HIGH",
        help="The range of an input's numbers; clients refuse others. May be repeated.",
        show_default=False,
    ),
]
Rings: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--ring",
        metavar="BITS|PATTERN=BITS",
        help="Bits in which weights are stored: auto, 32, 40, 48 or 64; for some of them PATTERN=BITS. May be"
        " repeated.",
        show_default="auto",
    ),
]
Seed: TypeAlias = Annotated[int, typer.Option("--seed", help="For drawing random inputs.")]
Threads: TypeAlias = Annotated[int, typer.Option("--threads", min=1, help="Threads of each party.")]
Bandwidth: TypeAlias = Annotated[
    str, typer.Option("--bandwidth", help="Upload rate of one party: 1Gbit, 100Mbit.")
]
Latency: TypeAlias = Annotated[
    str, typer.Option("--latency", help="One-way latency, half of a ping: 0.1ms, 40ms.")
]
Memory: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--memory",
        metavar="SIZE",
        help="Memory for the weights of each server: 6GB, 800MB; weights that do not fit are read in every"
        " run. By default they may take what the machine can spare.",
        show_default=False,
    ),
]
# Of the commands that write texts.
ServersElsewhere: TypeAlias = Annotated[
    Path | None, typer.Option("--cluster", metavar="FILE", help="Use the servers of this cluster.toml.")
]
ServersKey: TypeAlias = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="Your .secret file from keygen.")
]
Tokenizer: TypeAlias = Annotated[
    Path | None,
    typer.Option("--tokenizer", metavar="FOLDER", help="Folder of the tokenizer and configuration."),
]
Plain: TypeAlias = Annotated[
    bool, typer.Option("--plain", help="Run in the clear with onnxruntime, for comparison.")
]
PidFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--pid-file",
        metavar="FILE",
        help="Write the number of the process there, for `onnxpuma reload`.",
        show_default=False,
    ),
]
ModelName: TypeAlias = Annotated[
    str,
    typer.Option(
        "--model",
        metavar="NAME",
        help="Which of the servers' models, if they have several.",
        show_default=False,
    ),
]
Cores: TypeAlias = Annotated[
    int, typer.Option("--cores", min=0, help="Cores of each server; 0: as many as this machine has.")
]
USUAL_BANDWIDTH, USUAL_LATENCY = "1Gbit", "0.1ms"
Public: TypeAlias = Annotated[
    list[str], _patterns("--public", "Weights to make public, by name (* and ? match).")
]
Secret: TypeAlias = Annotated[
    list[str], _patterns("--secret", "Constants to keep secret, by name; overrides --public.")
]
PublicInput: TypeAlias = Annotated[list[str], _patterns("--public-input", "Inputs that the servers may see.")]
ShownInput: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--public-input",
        metavar="NAME",
        help="An input that the servers may see, if the model's owner made it public.",
        show_default=False,
    ),
]
Calibrate: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--calibrate",
        metavar="SAMPLES",
        help="Samples that show the model's ranges: a .npz file of inputs, a .txt file of one text a line, a"
        " picture, a recording, or a folder of them.",
        show_default=False,
    ),
]
Hide: TypeAlias = Annotated[
    list[str], _patterns("--hide", "Outputs that nobody may get, by name: --hide logits.")
]
KeepOnly: TypeAlias = Annotated[
    list[str],
    _patterns(
        "--keep-only",
        "Outputs that nobody may open and that later requests continue from: --keep-only 'present*'; also an"
        " input that takes nothing else, if its name does not show it.",
    ),
]
SecretInput: TypeAlias = Annotated[
    list[str], _patterns("--secret-input", "Inputs that they may not see; overrides --public-input.")
]

_BITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_BYTES = {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12, "kib": 2**10, "mib": 2**20, "gib": 2**30}
_QUANTITY = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)")


def read_sizes(texts: Sequence[str]) -> dict[str, int]:
    """`batch=1` as {"batch": 1}; ConfigError for any other form."""
    sizes = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        if not equals or not name or not number.isdecimal():
            raise ConfigError(f"--dim {text} is not NAME=SIZE", "write --dim batch=1 --dim sequence=128")
        sizes[name] = int(number)
    return sizes


def read_rings(texts: Sequence[str]) -> dict[str, Any]:
    """`48` and `*.down_proj*=64` as the fields `ring` and `rings` of a policy; else ConfigError."""
    ring: int | str = "auto"
    rings: dict[str, int | str] = {}
    for text in texts:
        pattern, named, bits = text.rpartition("=")
        if bits != "auto" and not bits.isdigit():
            raise ConfigError(f"--ring {text} names no bits", "write --ring 48, or --ring '*.down_proj*=64'")
        width = int(bits) if bits.isdigit() else bits
        if named:
            rings[pattern] = width
        else:
            ring = width
    return {"ring": ring, "rings": rings}


def read_ranges(texts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """`pixels=0:1` as {"pixels": (0.0, 1.0)}; ConfigError for any other form."""
    ranges = {}
    for text in texts:
        name, _, ends = text.rpartition("=")
        try:
            low, high = (float(end) for end in ends.split(":"))
        except ValueError:
            name = ""
        if not name:
            raise ConfigError(f"--range {text} is not NAME=LOW:HIGH", "write --range pixel_values=-3:3")
        ranges[name] = low, high
    return ranges


def read_network(bandwidth: str, latency: str) -> NetworkConfig:
    """The network of these texts; ConfigError for any other form."""
    from onnxpuma.config import NetworkConfig

    return NetworkConfig(1e3 * read_latency(latency), 1e-6 * read_bandwidth(bandwidth))


def read_bandwidth(text: str) -> float:
    """`1Gbit`, `100Mbit` or `800kbit` in bits a second; ConfigError for any other form."""
    found = _QUANTITY.fullmatch(text.strip().lower().removesuffix("/s").removesuffix("ps"))
    unit = found[2].removesuffix("bit").removesuffix("b") if found else "?"
    if found is None or unit not in _BITS or float(found[1]) <= 0:
        raise ConfigError(f"--bandwidth {text} is not a bandwidth", "write --bandwidth 1Gbit or 100Mbit")
    return float(found[1]) * _BITS[unit]


def read_latency(text: str) -> float:
    """`0.1ms`, `50us` or `1s` in seconds; ConfigError for any other form."""
    found = _QUANTITY.fullmatch(text.strip().lower().replace("µ", "u"))
    if found is None or found[2] not in _SECONDS:
        raise ConfigError(
            f"--latency {text} is not a time", "write --latency 0.1ms, the time in one direction"
        )
    return float(found[1]) * _SECONDS[found[2]]


def read_address(flag: str, text: str) -> tuple[str, int]:
    """`127.0.0.1:9100`, `[::1]:9100` or `:9100` (all addresses) as host and port; else ConfigError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535 or (":" in host and host[:1] != "["):
        raise ConfigError(f"{flag} {text} is not an address and a port", f"write {flag} 127.0.0.1:9100")
    return host.strip("[]"), int(port)


def read_signers(cluster: Path | None) -> tuple[str, ...] | None:
    """The signing keys of the three servers of cluster.toml; None without the file. Raises ConfigError for a
    file that lists none."""
    from onnxpuma.config import read_cluster

    if cluster is None:
        return None
    signers = read_cluster(cluster).signers
    if signers is None:
        raise ConfigError(
            f"{cluster} lists no signing keys, or turns receipts off",
            "use the cluster.toml of the servers that signed",
        )
    return signers


def check_receipts(folder: Path | None) -> None:
    """Raise ConfigError unless receipts can be stored there, if anywhere."""
    if folder is not None and not (folder.is_dir() and os.access(folder, os.W_OK)):
        raise ConfigError(f"cannot write into {folder}", "name an existing folder that you can write to")


def read_memory(text: str | None) -> int | None:
    """`6GB`, `800MB` or `1.5GiB` in bytes; ConfigError for any other form."""
    if text is None:
        return None
    found = _QUANTITY.fullmatch(text.strip().lower())
    size = int(float(found[1]) * _BYTES[found[2]]) if found and found[2] in _BYTES else 0
    if size <= 0:
        raise ConfigError(f"--memory {text} is not a size of memory", "write --memory 6GB or --memory 800MB")
    return size
