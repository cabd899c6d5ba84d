"""The quarantine in the buffer: bounded, counted, and its numbers a person's to type."""

from buffers import NOW, open_buffer

from buffer.quarantine import Limits, entry


async def test_quarantine_is_bounded_and_what_it_cannot_keep_is_counted(tmp_path):
    limits = Limits(per_sender=3)
    buffer = await open_buffer(tmp_path, limits=limits)

    def bad(number, sender="NFLX_0A1B2C3D"):
        return buffer.submit(
            lambda draft: draft.quarantine(entry(sender, "bad", "mqtt", NOW, b"%d" % number)), now=True
        )

    assert [await bad(n) for n in (1, 2, 2, 3, 4, 5)] == [True, True, True, True, False, False]
    assert await bad(1, sender="another") is True
    await buffer.close()
    buffer = await open_buffer(tmp_path, limits=limits)
    assert buffer.quarantined == 4
    assert sum(buffer.overflow.values()) == 2
    assert await bad(6) is False
    assert sorted(times for _, times, _ in await buffer.look.quarantine_entries()) == [1, 1, 1, 2]
    await buffer.close()


async def test_the_number_of_an_entry_is_no_other_entrys_also_after_a_start(tmp_path):
    """A person types it, from a list of an hour ago."""
    seen = []
    for n in range(3):
        buffer = await open_buffer(tmp_path)
        item = entry("x", f"bad {n}", "mqtt", NOW, b"")
        await buffer.submit(lambda draft, item=item: draft.quarantine(item), now=True)
        seen += await buffer.look.quarantine_ids()
        await buffer.submit(lambda draft, item=item: draft.take_quarantined(item), now=True)
        await buffer.close()
    assert seen == [1, 2, 3]


async def test_quarantine_keeps_the_head_of_a_large_payload(tmp_path):
    buffer = await open_buffer(tmp_path)
    await buffer.submit(lambda draft: draft.quarantine(entry("x", "big", "mqtt", NOW, b"a" * (1 << 20))), now=True)
    ((_, _, item),) = await buffer.look.quarantine_entries()
    assert item.length == 1 << 20
    assert len(item.payload) < 24_000
    await buffer.close()
