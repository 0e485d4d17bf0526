"""State vectors of aircraft, as a network of receivers publishes them."""

from __future__ import annotations

from math import acos, atan2, cos, degrees, floor, hypot, pi, radians, sin
from random import Random
from typing import Any

from snapdelta.testing.feed._base import SeededFeed

_KNOT = 0.514444
_FOOT = 0.3048
_METRES_A_DEGREE = 111_195.0
_POSITION_STEPS = 2**17
_COUNTRIES = ("United States", "Germany", "United Kingdom", "France", "Ireland", "Türkiye", "Japan", "China")
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_HEARD_SHARE = 0.85
_REPLACED_SHARE = 0.004


class Aircraft(SeededFeed):
    """An endless iterator of state vectors; the same arguments give the same snapshots.

    Speed, heading and position have the digits that the radio protocol leaves: speed and track come from
    whole knots, altitudes from steps of 25 feet, latitude and longitude from 17-bit fractions of a zone. At
    the defaults 85 % of the aircraft are heard between two frames, and a few come and go.

    Args:
        symbols: how many aircraft there are.
        seed: of everything that is random.
        interval: seconds between two frames.

    Raises:
        FeedSettingError: an argument that makes no sense.
    """

    def __init__(self, symbols: int = 1_500, seed: int = 0, interval: float = 10.0) -> None:
        super().__init__(symbols, seed, interval)
        self._aircraft: dict[str, _Aircraft] = {}
        for _ in range(symbols):
            self._appear()

    def _advance(self) -> None:
        rng = self._rng
        for address, aircraft in self._aircraft.items():
            aircraft.fly(rng, self._interval_ms / 1000)
            if rng.random() < _HEARD_SHARE:
                aircraft.hear(rng, self.time_ms // 1000)
                self._records[address] = aircraft.record()
        leaving = [address for address in self._aircraft if rng.random() < _REPLACED_SHARE]
        for address in leaving:
            del self._aircraft[address], self._records[address]
            self._appear()

    def _appear(self) -> None:
        rng = self._rng
        while True:
            address = f"{rng.randrange(0x3C0000, 0xAE0000):06x}"
            if address not in self._aircraft:
                break
        aircraft = self._aircraft[address] = _Aircraft(rng, address)
        aircraft.hear(rng, self.time_ms // 1000)
        self._records[address] = aircraft.record()


class _Aircraft:
    """Where an aircraft is, and what was last heard of it. Speeds are whole knots, altitudes 25 feet."""

    def __init__(self, rng: Random, address: str) -> None:
        self.address = address
        airline, flight = "".join(rng.choices(_LETTERS, k=3)), rng.randrange(1, 9_999)
        self.callsign = "" if rng.random() < 0.03 else f"{airline}{flight}".ljust(8)
        self.country = rng.choice(_COUNTRIES)
        self.squawk = f"{rng.randrange(0o10000):04o}" if rng.random() < 0.7 else None
        self.has_position = rng.random() > 0.02
        self.latitude, self.longitude = rng.uniform(25.0, 60.0), rng.uniform(-120.0, 140.0)
        self.on_ground = rng.random() < 0.06
        speed, heading = (
            (rng.randrange(0, 20) if self.on_ground else rng.gauss(420, 70)),
            rng.uniform(0, 2 * pi),
        )
        self.east, self.north = round(speed * sin(heading)), round(speed * cos(heading))
        self.altitude = 0 if self.on_ground else rng.choice((120, 480, 1240, 1320, 1360, 1400, 1440, 1480))
        self.climb = 0 if self.on_ground or rng.random() < 0.7 else rng.randrange(-30, 31)
        self.altitude_offset = rng.randrange(-12, 25)
        self.position_time = self.contact_time = 0
        self.heard_latitude = self.heard_longitude = 0.0

    def fly(self, rng: Random, seconds: float) -> None:
        metres = _KNOT * seconds
        self.latitude += self.north * metres / _METRES_A_DEGREE
        self.longitude += self.east * metres / _METRES_A_DEGREE / cos(radians(self.latitude))
        if abs(self.latitude) > 70.0:
            self.north = -self.north
        if self.on_ground:
            return
        if rng.random() < 0.35:
            self.east += rng.randrange(-2, 3)
            self.north += rng.randrange(-2, 3)
        if rng.random() < 0.08:
            self.climb = rng.choice((0, 0, 0, rng.randrange(-30, 31)))
        # A climb counts 64 feet a minute, an altitude 25 feet.
        self.altitude = max(40, self.altitude + round(self.climb * 64 * seconds / 60 / 25))

    def hear(self, rng: Random, now: int) -> None:
        """A message arrives; the position in it may be some seconds older."""
        self.contact_time = now - int(rng.random() * 3)
        if not self.position_time or rng.random() < 0.9:
            self.position_time = self.contact_time - int(rng.random() ** 4 * 6)
            odd = rng.random() < 0.5
            self.heard_latitude, self.heard_longitude = _decoded(self.latitude, self.longitude, odd)

    def record(self) -> dict[str, Any]:
        located, flying = self.has_position, not self.on_ground
        return {
            "icao24": self.address,
            "callsign": self.callsign,
            "origin_country": self.country,
            "time_position": self.position_time if located else None,
            "last_contact": self.contact_time,
            "longitude": self.heard_longitude if located else None,
            "latitude": self.heard_latitude if located else None,
            "baro_altitude": round(self.altitude * 25 * _FOOT, 2) if flying else None,
            "on_ground": self.on_ground,
            "velocity": round(hypot(self.east, self.north) * _KNOT, 2),
            "true_track": round(degrees(atan2(self.east, self.north)) % 360.0, 2),
            "vertical_rate": round(self.climb * 64 * _FOOT / 60, 2) if flying else None,
            "sensors": None,
            "geo_altitude": round((self.altitude + self.altitude_offset) * 25 * _FOOT, 2)
            if flying and located
            else None,
            "squawk": self.squawk,
            "spi": False,
            "position_source": 0,
        }


def _decoded(latitude: float, longitude: float, odd: bool) -> tuple[float, float]:
    """The position that a receiver computes: zones of 6 degrees in even messages, 360/59 in odd ones."""
    heard_latitude = _on_zone_grid(latitude, 360.0 / (59 if odd else 60))
    zones = max(1, _longitude_zones(heard_latitude) - odd)
    return heard_latitude, _on_zone_grid(longitude, 360.0 / zones)


def _on_zone_grid(angle: float, zone: float) -> float:
    number = floor(angle / zone)
    return zone * (number + round((angle / zone - number) * _POSITION_STEPS) / _POSITION_STEPS)


def _longitude_zones(latitude: float) -> int:
    """How many zones of longitude the protocol has there: 59 at the equator, fewer towards the poles."""
    shrink = 1.0 - (1.0 - cos(pi / 30.0)) / cos(radians(latitude)) ** 2
    return floor(2.0 * pi / acos(max(-1.0, min(1.0, shrink))))
