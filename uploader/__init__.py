"""Batches of sealed-once events to an upstream, and an outcome for each."""
