"""What does the audit of one session cost? One request of a model at three servers here, audited as a canary.

The servers have stopped when the audit begins. Processor time is of the audit alone, all its threads.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from onnxpuma.config import ReceiptConfig
from onnxpuma.plan.examine.example import draw_inputs
from onnxpuma.plan.examine.support import fitting_shapes
from onnxpuma.roles.audit.judge import judge
from onnxpuma.roles.audit.reading import read_case
from onnxpuma.roles.audit.verdict import Verdict
from onnxpuma.roles.client.complaint import Sent
from onnxpuma.roles.client.mixing import Ridden
from onnxpuma.roles.local.cluster import LocalCluster
from onnxpuma.roles.owner.disclosure import here_alone
from onnxpuma.roles.owner.owner import share_model
from onnxpuma.roles.request.canary_file import Canary
from onnxpuma.roles.request.commitment import fresh_opening
from onnxpuma.transport.sealing import OwnerKey


@dataclass(frozen=True)
class Audited:
    """One audit."""

    verdict: Verdict
    processor: float  # seconds
    seconds: float
    memory: int  # bytes, the most that this process took so far
    file: int  # bytes


def measure(path: Path, sizes: dict[str, int]) -> Audited:
    """Run the model once, and audit that run."""
    owner = OwnerKey.generate()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        share_model(path, folder / "shared", owner_key=owner.public, review=here_alone)
        kept = ReceiptConfig(True, 600.0)
        with LocalCluster(folder / "shared", receipts=kept) as servers, servers.client() as client:
            blueprint = client.blueprint
            feed = draw_inputs(blueprint, fitting_shapes(blueprint, sizes))
            sent = Sent(fresh_opening())
            shown = {name: feed[name] for name in blueprint.public_inputs}
            ridden = Ridden({}, shown, tuple(blueprint.own_outputs), (), None, (), True)
            client.probe(Canary(feed, {}), ridden, sent)
            file, _ = client.complain(sent, folder)
        began, processor = time.perf_counter(), time.process_time()
        case = read_case(file, folder / "shared", owner)
        verdict = judge(case.evidence, case.plan, case.interpreters)
        return Audited(
            verdict,
            time.process_time() - processor,
            time.perf_counter() - began,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            file.stat().st_size,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dim", action="append", default=[], metavar="NAME=SIZE", help="as for inspect")
    arguments = parser.parse_args()
    sizes = {name: int(size) for name, size in (text.split("=") for text in arguments.dim)}
    found = measure(arguments.model, sizes)
    print(f"{found.verdict.finding.value}: {found.verdict}")
    print(f"{found.processor:.1f} s of processor time, {found.seconds:.1f} s by the clock")
    print(f"{found.memory / 1e9:.1f} GB of memory; a file of {found.file / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
