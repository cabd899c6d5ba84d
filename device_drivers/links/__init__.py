"""The only radio and broker I/O of the gateway."""
