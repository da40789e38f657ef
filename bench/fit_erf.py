"""Fit the functions that the engine's two GELUs use for erf, and print their coefficients and errors.

    python bench/fit_erf.py

The exact GELU has a quotient of polynomials: erf(z) = z P(z^2) / Q(z^2) over [-4, 4], outside of which erf is 1 in
float32. The largest error is reduced by least squares with new weights in each round: 1 / Q, which makes the quotient
linear (Sanathanan & Koerner 1963), and the error where it is large (Lawson 1961).

The short GELU, for products of int8, is x (1/2 + x P(x^2)) with x limited to [-4.25, 4.25] inside of the brackets. P
has nine coefficients, and is exact at the ends, so that the function is 0 or x beyond them. A smaller error would not
survive the rounding of float32.
"""

from __future__ import annotations

import math

import numpy as np

P_DEGREE, Q_DEGREE, ROUNDS = 6, 4, 60
END, TERMS = 4.25, 9
"""The limit of x in the short GELU, and the number of coefficients of its polynomial."""


def main() -> None:
    z = 4 * np.sin(np.linspace(0, np.pi / 2, 6000))[1:]
    wanted = np.array([math.erf(value) for value in z])
    p, q = fit(z, wanted)
    print(f"P, from the constant up: {', '.join(f'{value:.9e}' for value in p.astype(np.float32))}")
    print(f"Q, from the constant up: {', '.join(f'{value:.9e}' for value in q.astype(np.float32))}")
    print(f"largest error, computed exactly: {np.abs(quotient(z, p, q) - wanted).max():.1e}")
    rounded = quotient(z.astype(np.float32), p.astype(np.float32), q.astype(np.float32))
    print(f"largest error, computed in float32: {np.abs(rounded - wanted).max():.1e}")
    short = fit_short().astype(np.float32)
    x = np.linspace(-8, 8, 200_001).astype(np.float32)
    exact = np.array([value / 2 * (1 + math.erf(value / math.sqrt(2))) for value in x.astype(float)])
    print(f"short GELU, from the constant up: {', '.join(f'{value:.9e}' for value in short)}")
    print(f"its largest error, computed in float32: {np.abs(short_gelu(x, short) - exact).max():.1e}")


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


def fit_short() -> np.ndarray:
    """Return the coefficients of the short GELU's P, with the smallest maximal error of all rounds.

    x P(x^2) is x / (2 END), which is exact at the ends, plus a multiple of x (x^2 - END^2) that is fitted.
    """
    x = END * np.sin(np.linspace(0, np.pi / 2, 6000))[1:]
    share, of_end = np.ones_like(x), x / END
    missing = np.array([math.erf(value / math.sqrt(2)) / 2 for value in x]) - of_end / 2
    columns = np.stack([of_end * (of_end**2 - 1) * of_end ** (2 * n) for n in range(TERMS - 1)], 1)
    best: tuple[float, np.ndarray] | None = None
    for _ in range(3 * ROUNDS):
        weight = share * x  # the function multiplies the error by x
        found, *_ = np.linalg.lstsq(columns * weight[:, None], missing * weight, rcond=None)
        error = np.abs(columns @ found - missing) * x
        if best is None or error.max() < best[0]:
            best = (error.max(), found)
        share = np.maximum(share * (1e-12 + error) ** 0.3, 1e-300)
        share = np.maximum(share / share.max(), 1e-6)
    assert best is not None
    whole = np.zeros(TERMS)
    whole[0] = 0.5
    whole[:-1] -= best[1]
    whole[1:] += best[1]
    return whole / END ** (2 * np.arange(TERMS) + 1)


def short_gelu(x: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Return the short GELU, in the type of `x`."""
    inside = np.clip(x, -END, END).astype(x.dtype)
    t, value = inside * inside, np.full_like(x, p[-1])
    for coefficient in p[-2::-1]:
        value = value * t + coefficient
    return x * (value * inside + x.dtype.type(0.5))


if __name__ == "__main__":
    main()
