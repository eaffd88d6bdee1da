"""Elementary functions of exact rationals, enclosed by integers: no floating point, every rounding error accounted for.

Each function takes a rational num / den (den > 0) and a number of bits p, and returns integers (lo, hi) with

    lo / 2**p <= f(num / den) <= hi / 2**p,

a few units apart. At a point where f is known to be rational and a multiple of 2**-p, both ends are that number.
Inside, a number is an integer multiple of 2**-w for some w above p, and `ulp` means 2**-w. At rationals other than those
exact points exp, log, tanh and the logistic function are transcendental (Lindemann, Weierstrass), so that more bits always
decide on which side of a rational they lie. For erf at rationals nothing is proven, and nothing of the kind is assumed.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import isqrt
from typing import TypeAlias

Ends: TypeAlias = tuple[int, int]
Enclosure: TypeAlias = Callable[[int, int, int], Ends]

LARGEST_EXPONENT = 1 << 14
"""Above it e**x has more than 23,000 bits."""
GUARD = 40


@lru_cache(maxsize=64)
def log_of_two(w: int) -> int:
    """ln 2 in units of 2**-w, less than one unit off: 18 atanh(1/26) - 2 atanh(1/4801) + 8 atanh(1/8749)."""
    v = w + GUARD  # every term is less than one unit of 2**-v off, and 28 * (number of terms) < 2**(GUARD - 1)
    total = 18 * _inverse_series(26, v, 1) - 2 * _inverse_series(4801, v, 1) + 8 * _inverse_series(8749, v, 1)
    return total >> GUARD


@lru_cache(maxsize=64)
def pi(w: int) -> int:
    """Pi in units of 2**-w, less than one unit off: 16 atan(1/5) - 4 atan(1/239)."""
    v = w + GUARD
    return (16 * _inverse_series(5, v, -1) - 4 * _inverse_series(239, v, -1)) >> GUARD


def _inverse_series(n: int, v: int, sign: int) -> int:
    """Sum of sign**j / ((2j + 1) * n**(2j + 1)) in units of 2**-v: atanh(1/n) or atan(1/n)."""
    power, total, j = (1 << v) // n, 0, 0
    while power:
        total += (power // (2 * j + 1)) * (sign if j % 2 else 1)
        power, j = power // (n * n), j + 1
    return total


def exp(num: int, den: int, p: int) -> Ends:
    """e**x; x at most LARGEST_EXPONENT."""
    if num == 0:
        return 1 << p, 1 << p
    if num < 0 and -num >= den * p:  # e**-p < 2**-p
        return 0, 1
    if num > den * LARGEST_EXPONENT:
        raise OverflowError("the exponent is too large")
    k = (num * 378193 // den) >> 18  # about x / ln 2
    halvings = 4 + isqrt(p) // 2
    w = p + max(k, 0) + halvings + GUARD
    t = (num << w) // den - k * log_of_two(w)
    while t < 0:
        k, t = k - 1, t + log_of_two(w)
    t >>= halvings  # at most |k| + 2 ulp off; 0 <= t < 2**-4
    y, term, j = 1 << w, 1 << w, 0
    while term:
        j += 1
        term = (term * t >> w) // j
        y += term
    # each term is less than 3 ulp off, what is left out less than 8
    error = 3 * j + 2 * abs(k) + 16
    for _ in range(halvings):
        y = y * y >> w
    # squaring multiplies an error by 2 * y and adds one: by less than 2**(halvings + 2) together, as y ends below 2.2
    error = (error + 4) << (halvings + 2)
    shift = w - k - p
    return max(0, (y - error) >> shift), ((y + error) >> shift) + 1


def log(num: int, den: int, p: int) -> Ends:
    """The natural logarithm; num > 0."""
    if num == den:
        return 0, 0
    k = num.bit_length() - den.bit_length()  # x / 2**k lies between 1/2 and 2
    roots = 3 + isqrt(p) // 2
    w = p + roots + k.bit_length() + GUARD
    one = 1 << w
    m = (num << (w - k)) // den if w >= k else num // (den << (k - w))
    for _ in range(roots):  # the square root of an error e of m is e / (2 * sqrt(m)) < 0.71 * e, then one more ulp
        m = isqrt(m << w)
    sign, z = (1, m - one) if m >= one else (-1, one - m)
    z = (z << w) // (m + one)  # less than 6 ulp off
    square, power, y, j = z * z >> w, z, z, 0
    while power:
        j += 1
        power = power * square >> w
        y += power // (2 * j + 1)
    error = ((3 * j + 16) << (roots + 1)) + abs(k) + 1
    y = k * log_of_two(w) + sign * (y << (roots + 1))
    return (y - error) >> (w - p), ((y + error) >> (w - p)) + 1


def erf(num: int, den: int, p: int) -> Ends:
    """2 / sqrt(pi) times the integral of e**(-t**2) from 0 to x."""
    if num < 0:
        lo, hi = erf(-num, den, p)
        return -hi, -lo
    if num == 0:
        return 0, 0
    if num * num >= den * den * p:  # 1 - erf(x) <= e**(-x**2) < 2**-p
        return (1 << p) - 1, 1 << p
    # erf(x) = 2 / sqrt(pi) * e**(-x**2) * sum of 2**n * x**(2n + 1) / (2n + 1)!!, floors below and ceilings above
    whole = num * num // (den * den)
    w = p + 3 * (whole + 1) // 2 + GUARD
    low, high = (num << w) // den, -((-num << w) // den)
    square = (num * num << (w + 1)) // (den * den)  # 2 * x**2
    below, above, n = low, high, 0
    while high > 2 or square >= (2 * n + 3) << (w - 1):
        n += 1
        divisor = (2 * n + 1) << w
        low, high = low * square // divisor, -(-high * (square + 1) // divisor)
        below, above = below + low, above + high
    above += 2 * high + 2  # what is left out: each term is less than half of the one before
    small, large = exp(-num * num, den * den, w)
    root = isqrt(pi(2 * w))  # sqrt(pi) * 2**w lies between root - 1 and root + 2
    lo = (2 * below * small) // ((root + 2) << (w - p))
    hi = -(-(2 * above * large) // ((root - 1) << (w - p)))
    return lo, min(hi, 1 << p)


def logistic(num: int, den: int, p: int) -> Ends:
    """1 / (1 + e**-x)."""
    if num == 0:
        return 1 << (p - 1), 1 << (p - 1)
    w = p + 4
    small, large = exp(-abs(num), den, w)
    lo, hi = (1 << (w + p)) // ((1 << w) + large), -(-(1 << (w + p)) // ((1 << w) + small))
    return (lo, hi) if num > 0 else ((1 << p) - hi, (1 << p) - lo)


def tanh(num: int, den: int, p: int) -> Ends:
    """(1 - e**(-2x)) / (1 + e**(-2x))."""
    if num < 0:
        lo, hi = tanh(-num, den, p)
        return -hi, -lo
    w = p + 4
    small, large = exp(-2 * num, den, w)
    one = 1 << w
    return ((one - large) << p) // (one + large), -(-((one - small) << p) // (one + small))


def softplus(num: int, den: int, p: int) -> Ends:
    """log(1 + e**x)."""
    w = p + 4
    small, large = exp(-abs(num), den, w)
    lo, hi = log((1 << w) + small, 1 << w, w)[0] >> 4, -(-log((1 << w) + large, 1 << w, w)[1] >> 4)
    lo = max(lo, 0)
    return (lo, hi) if num <= 0 else (lo + (num << p) // den, hi - (-num << p) // den)


def gelu(num: int, den: int, p: int) -> Ends:
    """x / 2 * (1 + erf(x / sqrt(2)))."""
    w = p + max(0, num.bit_length() - den.bit_length()) + 4
    size = isqrt((num * num << (2 * w)) // (2 * den * den))  # |x| / sqrt(2) in units of 2**-w, rounded down
    lo, hi = erf(size, 1 << w, w) if num else (0, -2)
    return _gated(num, den, p, w, (lo, hi + 2))  # erf is steeper than 2 nowhere


def gelu_tanh(num: int, den: int, p: int) -> Ends:
    """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))."""
    w = p + max(0, num.bit_length() - den.bit_length()) + 4
    inner, below = abs(num) * (10**6 * den * den + 44715 * num * num), 10**6 * den**3
    root = isqrt((2 << (4 * w)) // pi(2 * w))  # sqrt(2 / pi) * 2**w lies between root - 1 and root + 2
    low, high = (tanh(inner * end, below << w, w) for end in (max(root - 1, 0), root + 2))
    return _gated(num, den, p, w, (low[0], high[1]))


def _gated(num: int, den: int, p: int, w: int, gate: Ends) -> Ends:
    """x / 2 * (1 + g) where g, of the sign of x, has its magnitude enclosed in units of 2**-w."""
    one = 1 << w
    if num >= 0:
        return num * (one + gate[0]) // (den << (w - p + 1)), -(-num * (one + gate[1]) // (den << (w - p + 1)))
    return num * (one - gate[0]) // (den << (w - p + 1)), -(-num * (one - gate[1]) // (den << (w - p + 1)))


def power(num: int, den: int, exponent: tuple[int, int], p: int) -> tuple[int, int, int]:
    """x**(a / b) between lo / over and hi / over, for x >= 0 and an exponent in lowest terms; a > 0 where x is 0.

    With b = 2**m, the result is rational only where x is a perfect power of 2**m, and then both ends are that number.
    """
    a, b = exponent
    while b % 2 == 0 and isqrt(num) ** 2 == num and isqrt(den) ** 2 == den:
        num, den, b = isqrt(num), isqrt(den), b // 2
    if num in (0, den):
        return int(num > 0), int(num > 0), 1
    if b <= 2:
        top, bottom = (num, den) if a > 0 else (den, num)
        top, bottom = top ** abs(a), bottom ** abs(a)
        if b == 1:
            return top, top, bottom
        root = isqrt((top << (2 * p)) // bottom)
        return root, root + 1, 1 << p
    bits = abs(a) * (abs(num.bit_length() - den.bit_length()) + 1) // b  # |log2| of the result is at most that
    w = p + 2 * bits + (abs(a) // b).bit_length() + 8
    ends = sorted(a * end for end in log(num, den, w))
    return exp(ends[0], b << w, p)[0], exp(ends[1], b << w, p)[1], 1 << p
