"""Short path to RunRecord and write_json of fastlm.runs.record."""

from fastlm.runs.record import RunRecord, write_json

__all__ = ["RunRecord", "write_json"]
