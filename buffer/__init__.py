"""Sealed store-and-forward in SQLite: key ring, lanes, registry of paired patches, quarantine."""
