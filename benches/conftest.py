"""The fixture through which benchmarks hand in results, and the option that says where they are saved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benches.results import Result, save

_RESULTS = pytest.StashKey[list[Result]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", type=Path, help="write the results to this JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_RESULTS] = []


@pytest.fixture
def hand_in(request: pytest.FixtureRequest) -> Callable[[Result], None]:
    return request.config.stash[_RESULTS].append


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("--results")
    if path is not None:
        save(session.config.stash[_RESULTS], path)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("ratios")
    for result in config.stash[_RESULTS]:
        missed = "" if result.target is None or result.ratio <= result.target else "   MISSED"
        target = "" if result.target is None else f" (target {result.target:g})"
        terminalreporter.write_line(f"{result.ratio:8.4f}{target:12}  {result.key}{missed}")
