"""Mean Keplerian elements with the secular rates of J2.

Rates of first order (Vallado, Fundamentals of Astrodynamics, 9.6), with k = 1.5 J2 (R / p)^2 n:
node -k cos i, argument of periapsis k (2 - 2.5 sin^2 i), mean anomaly n + k sqrt(1 - e^2) (1 - 1.5 sin^2 i).
Gravity: GMM-3 (Genova et al. 2016).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from marsnet.model.topology import MeanElements
from marsnet.sky.marsframe import equator_j2000

Array = NDArray[np.float64]

GM = 42_828.373621e9
"""m^3/s^2."""
J2 = 1.9566e-3
J2_RADIUS = 3_396_000.0


def eccentric_anomaly(mean: Array, eccentricity: float) -> Array:
    """Solve Kepler's equation E - e sin E = M to 1e-14 rad; arrays of any shape, 0 <= e < 1."""
    reduced = np.remainder(mean + np.pi, 2 * np.pi) - np.pi
    if eccentricity == 0.0:
        return reduced
    # Halley's iteration from Danby's starter converges for every e < 1 (Danby 1988, section 6.6).
    anomaly: Array = reduced + 0.85 * eccentricity * np.sign(reduced)
    if eccentricity < 0.2:
        sine = np.sin(reduced)
        anomaly = reduced + eccentricity * sine * (1 + eccentricity * np.cos(reduced))
    for _ in range(30):
        sine, cosine = eccentricity * np.sin(anomaly), eccentricity * np.cos(anomaly)
        error, slope = anomaly - sine - reduced, 1 - cosine
        step = error / (slope - 0.5 * error * sine / slope)
        anomaly -= step
        # The next step of a cubic iteration would be of the order of step^3.
        if not step.size or np.max(np.abs(step)) < 1e-5:
            break
    return anomaly


@dataclass(frozen=True)
class Kepler:
    """An orbit around Mars.

    Attributes:
        epoch: TDB seconds since J2000 of the elements.
        axis: semi-major axis, metres.
        eccentricity: 0 <= e < 1.
        inclination: radians, as all angles here.
        node, periapsis, anomaly: at the epoch.
        frame: columns are the frame's axes in ICRF, shape (3, 3).
    """

    epoch: float
    axis: float
    eccentricity: float
    inclination: float
    node: float
    periapsis: float
    anomaly: float
    frame: Array

    @classmethod
    def of(cls, elements: MeanElements, epoch: float) -> Kepler:
        """The orbit of a topology's mean elements; `epoch` is theirs in TDB seconds since J2000."""
        return cls(
            epoch,
            elements.semi_major_axis,
            elements.eccentricity,
            math.radians(elements.inclination),
            math.radians(elements.node),
            math.radians(elements.periapsis),
            math.radians(elements.anomaly),
            equator_j2000(),
        )

    @property
    def rates(self) -> tuple[float, float, float]:
        """Secular rates of node, argument of periapsis and mean anomaly, rad/s."""
        motion = math.sqrt(GM / self.axis**3)
        parameter = self.axis * (1 - self.eccentricity**2)
        k = 1.5 * J2 * (J2_RADIUS / parameter) ** 2 * motion
        sine2 = math.sin(self.inclination) ** 2
        return (
            -k * math.cos(self.inclination),
            k * (2 - 2.5 * sine2),
            motion + k * math.sqrt(1 - self.eccentricity**2) * (1 - 1.5 * sine2),
        )

    @property
    def fastest(self) -> float:
        """Angular speed at periapsis, rad/s."""
        radius = self.axis * (1 - self.eccentricity)
        return math.sqrt(GM * (1 + self.eccentricity) / radius**3)

    @property
    def lowest(self) -> float:
        """Radius of periapsis, metres."""
        return self.axis * (1 - self.eccentricity)

    def state(self, tdb: Array) -> tuple[Array, Array]:
        """Position in metres and velocity in m/s relative to Mars, along ICRF, each (3, n), at TDB seconds."""
        elapsed = tdb - self.epoch
        node_rate, periapsis_rate, anomaly_rate = self.rates
        e = self.eccentricity
        anomaly = eccentric_anomaly(self.anomaly + anomaly_rate * elapsed, e)
        cosine, sine = np.cos(anomaly), np.sin(anomaly)
        minor = self.axis * math.sqrt(1 - e * e)
        speed = anomaly_rate / (1 - e * cosine)
        x, y = self.axis * (cosine - e), minor * sine
        # The plane turns with the periapsis, and below with the node.
        u_rate = -self.axis * sine * speed - periapsis_rate * y
        v_rate = minor * cosine * speed + periapsis_rate * x
        angle, node = self.periapsis + periapsis_rate * elapsed, self.node + node_rate * elapsed
        cos_w, sin_w, cos_o, sin_o = np.cos(angle), np.sin(angle), np.cos(node), np.sin(node)
        cos_i, sin_i = math.cos(self.inclination), math.sin(self.inclination)
        place, moving = np.empty((3, len(tdb))), np.empty((3, len(tdb)))
        for p, q, rows in ((x, y, place), (u_rate, v_rate, moving)):
            u, v = p * cos_w - q * sin_w, p * sin_w + q * cos_w
            flat = cos_i * v
            rows[0], rows[1], rows[2] = u * cos_o - flat * sin_o, u * sin_o + flat * cos_o, sin_i * v
        moving[0] -= node_rate * place[1]
        moving[1] += node_rate * place[0]
        return self.frame @ place, self.frame @ moving
