"""Patches that do not exist: the sending side of the protocols, sans-IO, for the demo and the tests."""
