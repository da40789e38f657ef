"""Fit the quotient of polynomials that the engine's GELU uses for erf, and print its coefficients and error.

    python bench/fit_erf.py

erf(z) = z P(z^2) / Q(z^2) over [-4, 4], outside of which erf is 1 in float32. The largest error is reduced by least
squares with new weights in each round: 1 / Q, which makes the quotient linear (Sanathanan & Koerner 1963), and the
error where it is large (Lawson 1961).
"""

from __future__ import annotations

import math

import numpy as np

P_DEGREE, Q_DEGREE, ROUNDS = 6, 4, 60


def main() -> None:
    z = 4 * np.sin(np.linspace(0, np.pi / 2, 6000))[1:]
    wanted = np.array([math.erf(value) for value in z])
    p, q = fit(z, wanted)
    print(f"P, from the constant up: {', '.join(f'{value:.9e}' for value in p.astype(np.float32))}")
    print(f"Q, from the constant up: {', '.join(f'{value:.9e}' for value in q.astype(np.float32))}")
    print(f"largest error, computed exactly: {np.abs(quotient(z, p, q) - wanted).max():.1e}")
    rounded = quotient(z.astype(np.float32), p.astype(np.float32), q.astype(np.float32))
    print(f"largest error, computed in float32: {np.abs(rounded - wanted).max():.1e}")


def fit(z: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the coefficients of P and Q with the smallest maximal error of all rounds."""
    t, share, below = z * z, np.ones_like(z), np.ones_like(z)
    best: tuple[float, np.ndarray, np.ndarray] | None = None
    columns = [z * t**n for n in range(P_DEGREE + 1)] + [-wanted * t**n for n in range(1, Q_DEGREE + 1)]
    for _ in range(ROUNDS):
        weight = share / below
        found, *_ = np.linalg.lstsq(np.stack(columns, 1) * weight[:, None], wanted * weight, rcond=None)
        p, q = found[: P_DEGREE + 1], np.concatenate([[1.0], found[P_DEGREE + 1 :]])
        below, error = np.polyval(q[::-1], t), np.abs(quotient(z, p, q) - wanted)
        if best is None or error.max() < best[0]:
            best = (error.max(), p, q)
        share = share * (1e-12 + error) ** 0.3
        share = np.maximum(share / share.max(), 1e-6)
    assert best is not None
    return best[1], best[2]


def quotient(z: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return z P(z^2) / Q(z^2), in the type of `z`."""
    t = z * z
    above, below = np.full_like(z, p[-1]), np.full_like(z, q[-1])
    for coefficient in p[-2::-1]:
        above = above * t + coefficient
    for coefficient in q[-2::-1]:
        below = below * t + coefficient
    return z * above / below


if __name__ == "__main__":
    main()
