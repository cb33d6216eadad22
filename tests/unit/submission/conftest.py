from tests.unit.submission.templates import described_by_us

__all__ = ["described_by_us"]
