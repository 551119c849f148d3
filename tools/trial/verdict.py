"""Whether an answer on shares is right, marked, refused or wrong, and which node a wrong one accuses.

An answer is *marked* if the client is told that a value left its range; *alarmed* if it is right
nevertheless.

The answer in double precision is the correct one. A graph proves nothing (*unsure*) where single precision
itself differs from it by more than 1e-3 of the largest value, or is NaN somewhere. An answer is *wrong* where
it differs by more than 2e-2 of the largest value and by more than three times the part that declared errors
explain: those of all operators on the way, as random noise on every input and result, in single and fourfold
size, eight runs, and 64 where these do not explain it. Where the difference is above 2e-2 and explained so,
it is *coarse*: fixed point with 18 bits cannot decide. Shares omit rounding of activations to a few bits, so
a step to either side counts as explained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnxruntime as ort

from onnxpuma.errors import OnnxpumaError
from onnxpuma.graph.protobuf import element_type
from onnxpuma.roles.local.memory import MemoryModel
from trial.doubles import UNIT, declared, node_in_doubles, run_doubles

ALLOWED = 2e-2
UNSURE = 1e-3
KINDS = ("agreed", "alarmed", "refused", "marked", "unsure", "coarse", "crashed", "wrong")
_NOISED = (8, 64)
_FEW_BITS = (
    *("QuantizeLinear", "DynamicQuantizeLinear", "MatMulInteger", "QLinearMatMul", "DequantizeLinear"),
)


@dataclass(frozen=True)
class Verdict:
    """A verdict on one graph."""

    kind: str  # one of KINDS
    output: str = ""  # the one with the largest error
    error: float = 0.0
    largest: float = 0.0
    explained: float = 0.0
    reason: str = ""
    got: dict[str, np.ndarray] = field(default_factory=dict, repr=False)


def judged(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> Verdict:
    """Run a graph on shares; everything is secret but the inputs and constants whose names mark them as
    public."""
    exact = run_doubles(model, feed)
    if not _sure(model, feed, exact):
        return Verdict("unsure")
    try:
        runner = shared(model, feed)
        plan = runner.plan(feed)
        plan.client_values(feed)
    except OnnxpumaError as error:
        kind = "crashed" if "internal error" in str(error) else "refused"
        return Verdict(kind, reason=f"{type(error).__name__}: {error.message}")
    except Exception as error:
        return Verdict("crashed", reason=f"{type(error).__name__}: {error}")
    try:
        done = runner.run(feed)
    except Exception as error:
        return Verdict("crashed", reason=f"{type(error).__name__}: {error}")
    found = compared(model, feed, exact, done.outputs)
    if done.reliable:
        return found
    return replace(found, kind="alarmed" if found.kind == "agreed" else "marked")


def shared(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> MemoryModel:
    """The model with everything secret but the inputs and constants whose names mark them as public."""
    public = [t.name for t in model.graph.initializer if t.name.startswith("pub")]
    seen = [n for n in feed if n.startswith("keep")]
    hidden = [n for n in feed if not n.startswith("keep")]
    return MemoryModel(model, public=public, public_inputs=seen, secret_inputs=hidden, at_client=False)


def run_on_shares(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The outputs by name."""
    return shared(model, feed).run(feed).outputs


def _sure(model: onnx.ModelProto, feed: Mapping[str, np.ndarray], exact: Mapping[str, np.ndarray]) -> bool:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        singles = session.run(None, dict(feed))
    except Exception:  # onnxruntime has no kernel for it, or infers other shapes
        return False
    for name, single in zip([o.name for o in session.get_outputs()], singles, strict=True):
        if single.shape != exact[name].shape:
            return False
        error, largest = _apart(single, exact[name])
        if not error <= UNSURE * largest or np.isnan(single.astype(np.float64)).any():
            return False
    return True


def _apart(got: np.ndarray, want: np.ndarray) -> tuple[float, float]:
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    real = np.isfinite(want)
    error = np.abs(np.where(real, got, 0.0) - np.where(real, want, 0.0)).max(initial=0.0)
    return float(error), float(np.abs(want[real]).max(initial=0.0))


def compared(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray],
    exact: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
) -> Verdict:
    """The verdict on these outputs."""
    off = {n: _apart(v, exact[n]) for n, v in got.items()}
    off = {n: e for n, e in off.items() if not e[0] <= ALLOWED * e[1]}
    if not off:
        return Verdict("agreed")
    for runs in _NOISED:
        worst = _explained(model, feed, exact, got, off, runs)
        if worst.kind == "coarse":
            break
    return worst


def _explained(
    model: onnx.ModelProto,
    feed: Mapping[str, np.ndarray],
    exact: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    off: Mapping[str, tuple[float, float]],
    runs: int,
) -> Verdict:
    """Coarse, or wrong where so many runs with noise do not come as far from the exact outputs."""
    rng = np.random.default_rng(0)
    try:
        noised = [run_doubles(model, feed, rng, 4.0 if i % 2 else 1.0) for i in range(runs)]
    except ValueError:  # onnx pools no windows that hold no number, which noise can make
        name, (error, largest) = next(iter(off.items()))
        return Verdict("coarse", name, error, largest, float("inf"), got=dict(got))
    worst = Verdict("coarse")
    for name, (error, largest) in off.items():
        with np.errstate(invalid="ignore"):
            apart = [_apart(run[name], exact[name])[0] for run in noised]
        explained = float("inf") if np.isnan(apart).any() else max(*apart, UNIT)
        kind = "coarse" if error <= ALLOWED * largest + 3 * explained else "wrong"
        if worst.kind == "coarse":
            worst = Verdict(kind, name, error, largest, explained, got=dict(got))
    return worst


def accused(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> str:
    """The node whose result on shares differs most from the correct result for its operands on shares, found
    by making every value an output: its operator, its operands and its result."""
    exact = run_doubles(model, feed)
    made = [n for node in model.graph.node for n in node.output if node.op_type not in _FEW_BITS]
    for kinds in ("fib", "f"):
        whole = onnx.ModelProto()
        whole.CopyFrom(model)
        del whole.graph.output[:]
        for name in made:
            if exact[name].dtype.kind in kinds:
                single = exact[name].dtype.kind == "f"
                kind = np.dtype(np.float32) if single else exact[name].dtype
                declared = onnx.helper.make_tensor_value_info(name, element_type(kind), exact[name].shape)
                whole.graph.output.append(declared)
        try:
            got = run_on_shares(whole, feed)
            break
        except Exception as error:
            hidden = f"hidden by {type(error).__name__}: {error}"
    else:
        return hidden[:100]
    return _departed(model, {**exact, **{n: _kept(v, exact[n]) for n, v in got.items()}}) or "only as a whole"


def _kept(got: np.ndarray, exact: np.ndarray) -> np.ndarray:
    """The values as doubles; infinite ones stay so."""
    if exact.dtype.kind != "f":
        return got.astype(exact.dtype)
    return np.where(np.isfinite(exact), got.astype(np.float64), exact)


def _departed(model: onnx.ModelProto, values: dict[str, np.ndarray]) -> str:
    opset, worst, said = model.opset_import[0].version, 1.0, ""
    for node in model.graph.node:
        if node.op_type in _FEW_BITS:
            continue
        given = [values.get(n) if n else None for n in node.input]
        with np.errstate(all="ignore"):
            try:
                found = node_in_doubles(node, given, opset)
            except Exception:
                continue
        for name, want in zip(node.output, found, strict=True):
            want = np.asarray(want)
            error, largest = _apart(values[name], want)
            times = error / (ALLOWED * largest + 4 * declared(node.op_type) + 1e-9)
            if not times <= worst:
                read = [float(np.abs(v[np.isfinite(v)]).max(initial=0)) for v in given
                        if v is not None and v.dtype.kind == "f"]  # fmt: skip
                worst, far = times, ", ".join(f"{v:.3g}" for v in read)
                said = f"{node.op_type}({far}) off by {error:.3g} of {largest:.3g}"
    return said
