"""What a complete run skips is on the page, with the reason."""

from tests.faults.record import pytest_runtest_makereport, pytest_sessionfinish

__all__ = ["pytest_runtest_makereport", "pytest_sessionfinish"]
