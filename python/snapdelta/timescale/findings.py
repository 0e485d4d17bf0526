"""The findings of checks, one per line."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity; only a fault makes `snapdelta migrate verify` exit with status 1."""

    OK = "ok"
    INFO = "info"
    WARNING = "warning"
    FAULT = "fault"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one object: the declared and the actual value, and advice if they differ."""

    subject: str
    check: str
    declared: str
    actual: str
    severity: Severity
    advice: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON: plain strings."""
        return {key: str(value) for key, value in asdict(self).items()}

    @classmethod
    def fault(cls, subject: str, check: str, declared: str, actual: str, advice: str) -> Finding:
        """The fault and the advice."""
        return cls(subject, check, declared, actual, Severity.FAULT, advice)

    @classmethod
    def judged(cls, subject: str, check: str, declared: str, actual: str, good: bool, advice: str) -> Finding:
        """A fault, or a good finding without advice."""
        return (
            cls(subject, check, declared, actual, Severity.OK)
            if good
            else cls.fault(subject, check, declared, actual, advice)
        )
