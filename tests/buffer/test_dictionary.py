"""The shipped dictionary is made of synthetic events only: its builder makes the same bytes."""

from importlib.resources import files
from itertools import islice

from synthetic import wire_events
from train_dictionary import train

from buffer.sealing import CURRENT_DICTIONARY, Dek


def test_rebuilt():
    assert train() == (files("buffer") / "dictionaries" / f"{CURRENT_DICTIONARY}.zdict").read_bytes()


def test_it_is_worth_it():
    """Without a word: what patches of one day have in common is the dictionary's alone."""
    dek = Dek(1, b"k" * 32)
    events = list(islice(wire_events(7), 500))
    sealed = sum(len(dek.seal_event(event, 2)) for event in events)
    assert sealed < 0.4 * sum(len(event.body) for event in events)
