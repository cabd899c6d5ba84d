"""Wires the floors together: command line, daemon, ingest, sync, pairing, replay, demo."""
