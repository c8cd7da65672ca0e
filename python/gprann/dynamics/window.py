"""The temperatures that a canonical ensemble allows: what leaves them is no fluctuation."""

from __future__ import annotations

from scipy.special import gammainccinv, gammaincinv


def temperature_window(degrees: int, false_alarm: float) -> tuple[float, float]:
    """Return the lowest and the highest temperature of a step, relative to that of the thermostat.

    The kinetic energy of a canonical ensemble is distributed as kT/2 times chi-square with as many degrees of freedom:
    the limits are quantiles of it, so that a correct potential leaves them with a known probability. A fixed window
    (Xu et al., 2023: 200 to 500 K around 300 K) is left by ten atoms once in ten samples, and never by a thousand
    however wrong the potential is.

    Parameters
    ----------
    degrees : int
        Degrees of freedom.
    false_alarm : float
        Probability of a step outside, half of it on either side.

    Returns
    -------
    low, high : float

    Examples
    --------
    >>> [[round(limit, 2) for limit in temperature_window(n, 1e-10)] for n in (30, 3000)]
    [[0.1, 3.66], [0.84, 1.18]]
    """
    half, tail = 0.5 * degrees, 0.5 * false_alarm
    return float(gammaincinv(half, tail)) / half, float(gammainccinv(half, tail)) / half
