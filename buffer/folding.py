"""What every event of one patch and day repeats is kept once, beside their data key: in a row it is one octet.

Octet 1 stands for the event's own key, 2 to 7 for the words. JSON has none of them: what has some is stored as it is.
"""

import re
from collections.abc import Sequence

from schemas.wire import WireEvent

MAX_WORDS = 6
_KEY, _FIRST = b"\x01", 2
_AS_IT_IS = b"\x00"
_CONTROL = re.compile(rb"[\x00-\x07]")


def fold(event: WireEvent, words: Sequence[bytes]) -> bytes:
    """Length of the key, key, body; with their words replaced."""
    key = event.idempotency_key.encode("ascii")
    head = bytes([len(key)]) + key
    if _CONTROL.search(event.body) or _CONTROL.match(head):
        return _AS_IT_IS + head + event.body
    folded = head + event.body.replace(key, _KEY)
    for number, word in enumerate(words, start=_FIRST):
        folded = folded.replace(word, bytes([number]))
    return folded


def unfold(folded: bytes, words: Sequence[bytes]) -> WireEvent:
    """The inverse of `fold` with the same words."""
    if folded.startswith(_AS_IT_IS):
        return unpack(folded[1:])
    for number in range(len(words) - 1, -1, -1):
        folded = folded.replace(bytes([_FIRST + number]), words[number])
    key, body = unpack(folded)
    return WireEvent(key, body.replace(_KEY, key.encode("ascii")))


def unpack(plain: bytes) -> WireEvent:
    """Length of the key, key, body: also the layout of keys that have no words."""
    length = plain[0]
    return WireEvent(plain[1 : 1 + length].decode("ascii"), plain[1 + length :])
