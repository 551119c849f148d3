"""Fit the noise of docs/protocols.md, "Sampling", and write it to onnxpuma/mpc/protocols/noise.json.

A third of a Gumbel variable, of which three independent ones add up to one: its characteristic function is
the cube root of Gamma(1 - it). It is written as a whole number of steps plus four uniform variables of a
step each: a cubic spline with these steps as its knots. Both holders of a key draw from the table, so it is
a file, not a computation. Run: python tools/fit_noise.py (needs mpmath; a minute)
"""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp

TARGET = Path(__file__).resolve().parent.parent / "onnxpuma" / "mpc" / "protocols" / "noise.json"
STEP = mp.mpf(1) / 16
LOWEST, HIGHEST = -64, 384  # steps: -4 to 24, beyond which are 4e-12 of all
UNIFORMS = 4  # that are added
ORDER = 8  # of the correction for them
REACH = 110  # the characteristic function is below 1e-24 from here on
SPACING = mp.mpf(1) / 16  # of its samples: the density repeats after 100
WHOLE = 1 << 64


def third(t: mp.mpf) -> mp.mpc:
    """The characteristic function of a third of a Gumbel variable."""
    return mp.exp(mp.loggamma(mp.mpc(1, -t)) / 3)


def correction() -> list[mp.mpf]:
    """Coefficients of 1 / sinc^4(step t / 2), by powers of t^2."""
    one = [abs(mp.mpf(2 - 4**n) * mp.bernoulli(2 * n)) / mp.factorial(2 * n) for n in range(ORDER // 2 + 1)]
    found = [mp.mpf(1)] + [mp.mpf(0)] * (ORDER // 2)
    for _ in range(UNIFORMS):
        found = [mp.fsum(found[k] * one[n - k] for k in range(n + 1)) for n in range(len(one))]
    return [c * (STEP / 2) ** (2 * power) for power, c in enumerate(found)]


def weights() -> list[int]:
    """The probability of each number of steps, as integers that add up to 2^64."""
    series = correction()
    nodes = [(n + mp.mpf(1) / 2) * SPACING for n in range(int(REACH / SPACING))]
    values = [third(t) * sum(c * t ** (2 * power) for power, c in enumerate(series)) for t in nodes]
    found = []
    for steps in range(LOWEST, HIGHEST):
        turn = mp.expj(-steps * STEP * SPACING)
        at, total = mp.expj(-steps * STEP * SPACING / 2), mp.mpf(0)
        for value in values:
            total += (value * at).real
            at *= turn
        found.append(max(mp.mpf(0), total * SPACING / mp.pi * STEP))
    scale = WHOLE / mp.fsum(found)
    rounded = [int(mp.nint(p * scale)) for p in found]
    rounded[rounded.index(max(rounded))] += WHOLE - sum(rounded)
    return rounded


def main() -> None:
    mp.mp.dps = 40
    found = weights()
    used = [place for place, weight in enumerate(found) if weight]
    kept = found[used[0] : used[-1] + 1]
    entries = {"lowest": LOWEST + used[0], "weights": kept}
    TARGET.write_text(json.dumps(entries, indent=1) + "\n")
    print(f"{len(kept)} steps from {float((LOWEST + used[0]) * STEP):g} on")


if __name__ == "__main__":
    main()
