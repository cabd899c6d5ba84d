"""Bytes to payloads: profiles decode (sans-IO), links talk to radios and brokers, captures are read like links."""
