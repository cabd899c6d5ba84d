"""Ways in which the buffer could be wrong. The crash model must notice each of them."""

from buffer import sealing

MUTANTS = ("normal", "ack_first", "second_transaction", "unbound")


async def break_it(buffer, mutant):
    """Do one of them to an open buffer."""
    if mutant == "normal":  # a commit is in the WAL, but not on the medium
        await buffer._connection.execute("PRAGMA synchronous=NORMAL")
    elif mutant == "ack_first":
        _ack_first(buffer)
    elif mutant == "second_transaction":
        _second_transaction(buffer)
    else:
        unbind()


def _ack_first(buffer):
    """Acknowledge what is decided, before COMMIT."""
    real = buffer.submit

    def submit(decide, **options):
        def early(draft):
            result = decide(draft)
            if not future.done():
                future.set_result(result)
            return result

        future = real(early, **options)
        return future

    buffer.submit = submit


def _second_transaction(buffer):
    """First what is known of records, then the records."""
    writer = buffer._writer
    real = writer._try

    async def try_twice(statements):
        marks = [statement for statement in statements if "INTO mark" in statement[0]]
        rest = [statement for statement in statements if "INTO mark" not in statement[0]]
        return (not marks or await real(marks)) and (not rest or await real(rest))

    writer._try = try_twice


class _Nothing:
    """In the place of the associated data."""

    @staticmethod
    def pack(*_):
        return b""


def unbind():
    """A row opens in whatever lane and under whatever number it stands."""
    sealing._AAD = _Nothing
