"""Files between real peer connections, over a network in memory."""

import asyncio
import errno
import json
import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from files_helpers import End, carried, connected, offered, written
from rtc_helpers import Clip, ways
from turned import TurnedLoop, elapse, turned
from wires import Losses

from synopticon_rtc.errors import ConnectionLost, FileError
from synopticon_rtc.files import hub
from synopticon_rtc.files.disk import Part, Source
from synopticon_rtc.files.hub import AT_ONCE, AT_ONCE_OFFERED, REFUSED, UNASKED, FileLink
from synopticon_rtc.files.incoming import LIVE_RATE
from synopticon_rtc.files.outgoing import STALLED, Outgoing
from synopticon_rtc.files.transfer import FileTransfer
from synopticon_rtc.files.wire import PROTOCOL, WINDOW
from synopticon_rtc.rtc import Channel


class Stranger:
    """Whoever offers a file, and says on its channel what no peer of this package does."""

    def __init__(self, end: End, name: str = "a stranger's") -> None:
        self.channel: Channel = end.peer.connection.add_channel(name, protocol=PROTOCOL)
        self.heard: list[dict[str, object]] = []
        self.closed = asyncio.Event()
        self.channel.on_message = lambda text: self.heard.append(json.loads(text))
        self.channel.on_close = self.closed.set

    async def opened(self) -> None:
        while not self.channel.is_open and not self.closed.is_set():
            await elapse(0.001)

    async def say(self, kind: str, **fields: object) -> None:
        await self.opened()
        self.channel.send(json.dumps({"type": kind, **fields}))
        await elapse(0.1)

    async def until(self, kind: str) -> dict[str, object]:
        while not (found := [message for message in self.heard if message["type"] == kind]):
            await elapse(0.01)
        return found[0]


@turned
async def test_a_file_comes_whole_under_its_name_with_its_time(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 700_001)
    async with connected() as (one, two):
        sent, received = await carried(one, two, path, tmp_path / "there")
        await sent.wait()
        await received.wait()
        assert received.path == tmp_path / "there" / "notes.bin"
        assert received.path is not None
        assert received.path.read_bytes() == path.read_bytes()
        assert received.path.stat().st_mtime == path.stat().st_mtime
        assert [each.name for each in (tmp_path / "there").iterdir()] == ["notes.bin"]


@turned
async def test_an_empty_file_is_one_too(tmp_path: Path) -> None:
    async with connected() as (one, two):
        _, received = await carried(one, two, written(tmp_path / "empty", 0), tmp_path / "there")
        await received.wait()
        assert received.path is not None
        assert received.path.read_bytes() == b""


@turned
async def test_an_offer_tells_what_it_is_and_leaves_nothing_where_it_is_rejected(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent = await one.hub.send(written(tmp_path / "notes.bin", 5), "two", rate=None)
        offer = await offered(two)
        assert (offer.name, offer.folder, offer.size, offer.session) == ("notes.bin", (), 5, "one")
        offer.reject("no room\x1b[2J")
        with pytest.raises(FileError, match=r"is not taken: no room\\x1b"):
            await sent.wait()
        with pytest.raises(FileError, match="offered no more"):
            await offer.accept(tmp_path / "there")
    assert not (tmp_path / "there").exists()


@turned
async def test_progress_tells_bytes_rate_and_time_left_at_both_ends(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 3_000_000)
    async with connected() as (one, two):
        for way in ways(one.peer, two.peer):
            way.rate = 8_000_000
        for transfer in await carried(one, two, path, tmp_path / "there"):
            told = [progress async for progress in transfer]
            assert told[-1].octets == told[-1].size == 3_000_000
        sent, _ = await carried(one, two, written(tmp_path / "more.bin", 3_000_000), tmp_path / "there")
        told = [progress async for progress in sent]
        octets = [progress.octets for progress in told]
        assert octets == sorted(octets)
        middle = told[len(told) // 2]
        assert 0.5e6 < middle.rate < 1.1e6
        assert middle.left == pytest.approx((3_000_000 - middle.octets) / middle.rate)


@turned
async def test_a_file_whose_connection_is_lost_goes_on_where_it_was(tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 8_000_000), tmp_path / "there"
    async with connected() as (one, two):
        sent, received = await carried(one, two, path, there, rate=4_000_000)
        await elapse(1)
        two.link.close()
        one.link.close()
        for transfer in (sent, received):
            with pytest.raises(ConnectionLost, match="goes on where it was"):
                await transfer.wait()
    (part,) = there.iterdir()
    assert part.suffix == ".part"
    before = part.stat().st_size
    assert before > 2_000_000
    async with connected() as (one, two):
        again, received = await carried(one, two, path, there)
        await received.wait()
        await again.wait()
        assert again.moved == 8_000_000 - before
        assert sent.moved - before <= WINDOW
    assert [each.name for each in there.iterdir()] == ["notes.bin"]
    assert (there / "notes.bin").read_bytes() == path.read_bytes()


@turned
async def test_a_part_of_another_file_of_the_same_name_and_time_is_begun_anew(tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 300_000), tmp_path / "there"
    async with connected() as (one, two):
        await carried(one, two, path, there, rate=100_000)
        await elapse(1)
    (part,) = there.iterdir()
    part.write_bytes(bytes(part.stat().st_size))
    async with connected() as (one, two):
        sent, received = await carried(one, two, path, there)
        await received.wait()
        assert sent.moved == 300_000
    assert (there / "notes.bin").read_bytes() == path.read_bytes()


@turned
async def test_a_file_that_is_there_whole_is_not_sent_again(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 300_000)
    async with connected() as (one, two):
        for moved in (300_000, 0):
            sent, received = await carried(one, two, path, tmp_path / "there")
            await sent.wait()
            assert (sent.moved, received.path) == (moved, tmp_path / "there" / "notes.bin")


@turned
async def test_another_file_of_a_name_that_is_taken_gets_a_number_unless_it_is_to_give_way(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "notes.txt").write_text("mine")
    async with connected() as (one, two):
        path = written(tmp_path / "notes.txt", 100)
        for options, name in (({}, "notes (1).txt"), ({}, "notes (2).txt"), ({"overwrite": True}, "notes.txt")):
            sent, received = await carried(one, two, path, there, **options)
            await sent.wait()
            assert received.path == there / name
            assert received.path is not None
            assert received.path.read_bytes() == path.read_bytes()


@turned
async def test_folders_come_as_their_files_one_after_the_other(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "2026" / "may").mkdir(parents=True)
    names = [*(f"{number}.bin" for number in range(20)), "2026/may/one.bin"]
    for number, name in enumerate(names):
        written(folder / name, 1000 + number)
    (folder / "elsewhere").symlink_to("/etc/hosts")
    async with connected() as (one, two):
        transfers = await one.hub.send_folder(folder, None, rate=None)
        for _ in transfers:
            await (await offered(two)).accept(tmp_path / "there")
        for transfer in transfers:
            await transfer.wait()
    came = {str(path.relative_to(tmp_path / "there")) for path in (tmp_path / "there").rglob("*") if path.is_file()}
    assert came == {f"photos/{name}" for name in names}


@turned
async def test_several_share_fairly(tmp_path: Path) -> None:
    async with connected() as (one, two):
        for way in ways(one.peer, two.peer):
            way.rate = 16_000_000
        transfers = []
        for number in range(3):
            path = written(tmp_path / f"{number}.bin", 4_000_000)
            transfers.append((await carried(one, two, path, tmp_path / "there"))[0])
        await elapse(2)
        moved = [transfer.moved for transfer in transfers]
        assert max(moved) - min(moved) < 300_000 < min(moved)


@pytest.mark.parametrize("who", ["sender", "receiver"])
@turned
async def test_either_end_can_cancel_and_the_other_learns_why(tmp_path: Path, who: str) -> None:
    async with connected() as (one, two):
        path = written(tmp_path / "notes.bin", 3_000_000)
        transfers = await carried(one, two, path, tmp_path / "there", rate=1_000_000)
        await elapse(1)
        transfers[who == "receiver"].cancel("enough")
        await elapse(1)
        for transfer in transfers:
            with pytest.raises(FileError, match=r"cancelled.*enough|not taken: enough"):
                await transfer.wait()
        assert [each.suffix for each in (tmp_path / "there").iterdir()] == [".part"]
        _, received = await carried(one, two, path, tmp_path / "there")
        await received.wait()


@turned
async def test_a_rate_is_kept(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent, _ = await carried(one, two, written(tmp_path / "a", 3_000_000), tmp_path / "there", rate=200_000)
        await elapse(5)
        assert 0.9e6 < sent.moved < 1.1e6
        with pytest.raises(ValueError, match="1000 bytes a second"):
            await one.hub.send(tmp_path / "a", None, rate=0)


@pytest.mark.parametrize("live", [True, False])
@turned
async def test_a_burst_is_followed_by_a_rest_of_the_same_length_where_pictures_go_over_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, live: bool
) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, TurnedLoop)
    take, send = Outgoing.next, FileLink._send_some
    rests: list[float] = []
    ended: float | None = None  # of a burst after which there is more to send

    def take_a_millisecond(outgoing: Outgoing, most: int) -> bytes | None:
        loop.now += 0.001
        return take(outgoing, most)

    def note(link: FileLink) -> bool:
        nonlocal ended
        if ended is not None:
            rests.append(loop.now - ended)
        there_is_more = send(link)
        ended = loop.now if there_is_more else None
        return there_is_more

    monkeypatch.setattr(hub, "BURST", 1)
    async with connected(Clip() if live else None) as (one, two):
        monkeypatch.setattr(Outgoing, "next", take_a_millisecond)
        monkeypatch.setattr(FileLink, "_send_some", note)
        _, received = await carried(one, two, written(tmp_path / "notes.bin", 100_000), tmp_path / "there")
        await received.wait()
    assert len(rests) > 10
    assert rests == pytest.approx([0.001 if live else 0.0] * len(rests), abs=1e-6)


@pytest.mark.parametrize("live", [True, False])
@turned
async def test_files_are_taken_at_a_bounded_rate_where_pictures_go_over_the_connection(
    tmp_path: Path, *, live: bool
) -> None:
    loop = asyncio.get_running_loop()
    async with connected(Clip() if live else None) as (one, two):
        begun = loop.time()
        _, received = await carried(one, two, written(tmp_path / "notes.bin", 4_000_000), tmp_path / "there")
        await received.wait()
        assert (loop.time() - begun >= received.size / LIVE_RATE) is live


@turned
async def test_losses_and_reordering_change_no_byte(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 1_000_000)
    async with connected() as (one, two):
        for way in ways(one.peer, two.peer):
            way.losses, way.reordered = Losses(share=0.01), 0.05
        _, received = await carried(one, two, path, tmp_path / "there")
        await received.wait()
    assert (tmp_path / "there" / "notes.bin").read_bytes() == path.read_bytes()


@turned
async def test_what_cannot_be_sent_is_said_at_once(tmp_path: Path) -> None:
    async with connected() as (one, _):
        with pytest.raises(FileError, match="cannot be read: No such file"):
            await one.hub.send(tmp_path / "nothing", None, rate=None)
        with pytest.raises(FileError, match="is a folder"):
            await one.hub.send(tmp_path, None, rate=None)
        with pytest.raises(FileError, match="is no folder"):
            await one.hub.send_folder(tmp_path / "nothing", None, rate=None)
        with pytest.raises(ConnectionLost, match="not connected"):
            await one.hub.send(tmp_path, "somebody", rate=None)


@turned
async def test_a_file_that_changes_while_it_is_sent_is_not_taken_for_whole(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 1_000_000)
    async with connected() as (one, two):
        sent, received = await carried(one, two, path, tmp_path / "there", rate=500_000)
        await elapse(0.5)
        path.write_bytes(bytes(1_000_000))
        with pytest.raises(FileError, match=r"has changed|cancelled by the other end"):
            await received.wait()
        with pytest.raises(FileError, match="has changed"):
            await sent.wait()


@turned
async def test_a_disk_that_is_full_in_the_middle_is_one_error_at_both_ends_and_keeps_what_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "notes.bin", 2_000_000)
    write = Part.write

    def full(part: Part, data: bytes) -> None:
        if part.octets > 500_000:
            error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            raise FileError(f"notes.bin cannot be written: {error.strerror}") from error
        write(part, data)

    async with connected() as (one, two):
        with monkeypatch.context() as patched:
            patched.setattr(Part, "write", full)
            sent, received = await carried(one, two, path, tmp_path / "there")
            for transfer in (sent, received):
                with pytest.raises(FileError, match="No space left on device"):
                    await transfer.wait()
        sent, received = await carried(one, two, path, tmp_path / "there")
        await received.wait()
        assert sent.moved < 1_500_000


@pytest.mark.parametrize("end", ["one", "two"])
@pytest.mark.parametrize("state", ["offered", "accepted", "moving", "written", "whole"])
@turned
async def test_it_can_be_cancelled_in_every_state_and_sent_once_more(tmp_path: Path, end: str, state: str) -> None:
    path, there = written(tmp_path / "notes.bin", 400_000), tmp_path / "there"
    async with connected() as (one, two):
        sent = await one.hub.send(path, None, rate=None if state == "written" else 1_000_000)
        offer = await offered(two)
        received = await offer.accept(there) if state != "offered" else None
        if state == "moving":
            await elapse(0.2)
        elif state == "written":
            while sent.moved < sent.size:
                await elapse(0.001)
        elif state == "whole":
            await sent.wait()
        if end == "one":
            sent.cancel("enough")
        elif received is not None:
            received.cancel("enough")
        else:
            offer.reject("enough")
        await all_over(sent, received)
        await comes_once_more(one, two, path, there)


@pytest.mark.parametrize("end", ["one", "two"])
@turned
async def test_it_can_be_cancelled_while_its_place_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    path, there = written(tmp_path / "notes.bin", 400_000), tmp_path / "there"

    async def slowly(function: Callable[[], object]) -> object:
        await elapse(1)
        return function()

    async with connected() as (one, two):
        sent = await one.hub.send(path, None, rate=None)
        offer = await offered(two)
        with monkeypatch.context() as patched:
            patched.setattr(two.hub, "in_thread", lambda function: asyncio.ensure_future(slowly(function)))
            accepting = asyncio.create_task(offer.accept(there))
            await elapse(0.5)
            accepting.cancel() if end == "two" else sent.cancel("enough")
            with pytest.raises((asyncio.CancelledError, FileError)):
                await accepting
        await all_over(sent, None)
        await comes_once_more(one, two, path, there)


async def all_over(*transfers: FileTransfer | None) -> None:
    """Wait until it is over at both ends."""
    await elapse(2)
    assert all(transfer is None or transfer.is_over for transfer in transfers)


async def comes_once_more(one: End, two: End, path: Path, there: Path) -> None:
    """Send it once more, whatever became of it before."""
    assert not two.link.receiving
    sent, received = await carried(one, two, path, there)
    await received.wait()
    await sent.wait()
    assert files_of(there) == files_of(path.parent)


def files_of(folder: Path) -> dict[str, bytes]:
    """Read all files of a folder."""
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@turned
async def test_two_that_receive_the_same_file_into_one_folder_never_write_to_the_same(tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 400_000), tmp_path / "there"
    async with connected() as (one, two), connected() as (three, four):
        _, first = await carried(one, two, path, there, rate=200_000)
        await elapse(0.5)
        sent = await three.hub.send(path, None, rate=None)
        with pytest.raises(FileError, match="is being received already"):
            await (await offered(four)).accept(there)
        with pytest.raises(FileError, match="cannot be stored"):
            await sent.wait()
        await first.wait()
        sent, _ = await carried(three, four, path, there)
        await sent.wait()
        assert sent.moved == 0
    assert [each.name for each in there.iterdir()] == ["notes.bin"]


@turned
async def test_a_part_that_somebody_takes_away_gets_no_name(tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 400_000), tmp_path / "there"
    async with connected() as (one, two):
        sent, _ = await carried(one, two, path, there, rate=200_000)
        await elapse(0.5)
        (part,) = there.iterdir()
        part.unlink()
        part.write_bytes(b"another's")
        with pytest.raises(FileError, match="somebody has taken"):
            await sent.wait()
    assert [each.name for each in there.iterdir()] == [part.name]


@turned
async def test_what_never_came_leaves_nothing(tmp_path: Path) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name="a", size=4)
        transfer = await (await offered(two)).accept(tmp_path / "there")
        transfer.cancel()
        await elapse(1)
        stranger = Stranger(one, "another")
        await stranger.say("offer", name="a", size=2**50)
        with pytest.raises(FileError, match="no room for a"):
            await (await offered(two)).accept(tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())


@turned
async def test_names_that_differ_in_how_they_are_written_are_two_files(tmp_path: Path) -> None:
    folder, there = tmp_path / "folder", tmp_path / "there"
    folder.mkdir()
    for number, name in enumerate(["caf\u00e9.txt", "cafe\u0301.txt"]):
        (folder / name).write_text(str(number))
        os.utime(folder / name, (1, 1))
    async with connected() as (one, two):
        for transfer in await one.hub.send_folder(folder, None, rate=None):
            await (await offered(two)).accept(there)
            await transfer.wait()
    assert {each.name: each.read_text() for each in (there / "folder").iterdir()} == {
        "caf\u00e9.txt": "1",  # which stands first in the order of its letters
        "caf\u00e9 (1).txt": "0",
    }


@turned
async def test_a_file_that_goes_while_it_is_sent_is_sent_whole_and_one_that_gets_shorter_is_not(tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 2_000_000), tmp_path / "there"
    content = path.read_bytes()
    async with connected() as (one, two):
        _, received = await carried(one, two, path, there, rate=1_000_000)
        await elapse(0.5)
        path.unlink()
        await received.wait()
        assert (there / "notes.bin").read_bytes() == content
        path = written(tmp_path / "more.bin", 2_000_000)
        sent, _ = await carried(one, two, path, there, rate=1_000_000)
        await elapse(0.5)
        os.truncate(path, 1000)
        with pytest.raises(FileError, match="has become shorter while it was sent"):
            await sent.wait()


@turned
async def test_a_hole_of_5_gb_is_refused_for_its_size_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "hole.bin"
    path.touch()
    os.truncate(path, 5 * 10**9)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4 * 10**9))
    async with connected() as (one, two):
        sent = await one.hub.send(path, None, rate=None)
        offer = await offered(two)
        assert offer.size == sent.size == 5 * 10**9
        with pytest.raises(
            FileError, match=r"no room for hole\.bin: it needs 5000000000 bytes, and 4000000000 are free"
        ):
            await offer.accept(tmp_path / "there")
        with pytest.raises(FileError, match="cannot be stored"):
            await sent.wait()


def test_nobody_waits_for_the_hash_of_what_is_over(tmp_path: Path) -> None:
    path = written(tmp_path / "notes.bin", 300_000)
    source = Source(path)
    with pytest.raises(FileError, match="nobody waits for it"):
        source.matches(300_000, "", lambda: True)
    source.close()
    with pytest.raises(FileError, match="nobody waits for it"):
        Part(tmp_path, (), path.name, 300_000, source.modified, overwrite=False, promised=0, is_over=lambda: True)


# What strangers do


@pytest.mark.parametrize("name", ["notes.0123abcd.part", "NOTES.0123ABCD.PART"])
@turned
async def test_no_stranger_takes_the_place_of_what_is_on_its_way(name: str) -> None:
    async with connected() as (one, two):
        await Stranger(one).say("offer", name=name, size=3)
        assert (await offered(two)).name == f"{name}_"


@turned
async def test_a_folder_of_a_stranger_leads_through_no_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there" / "photos").symlink_to(tmp_path / "elsewhere")
    async with connected() as (one, two):
        await Stranger(one).say("offer", name="a", size=3, folder=["photos", "may"])
        with pytest.raises(FileError, match="a link to elsewhere"):
            await (await offered(two)).accept(tmp_path / "there")
    assert not list((tmp_path / "elsewhere").iterdir())


@turned
async def test_who_says_that_it_has_a_file_before_all_was_sent_breaks_the_rules(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent = await one.hub.send(written(tmp_path / "a", 3_000_000), None, rate=None)
        await offered(two)
        (incoming,) = two.link.receiving
        incoming._channel.send(json.dumps({"type": "done"}))
        incoming._channel.close()
        with pytest.raises(FileError, match="breaks the protocol"):
            await sent.wait()


@turned
async def test_offers_are_refused_when_nobody_asks_for_them_any_more(tmp_path: Path) -> None:
    async with connected() as (one, two):
        offers = two.hub.offers()
        first = await one.hub.send(written(tmp_path / "a", 1), None, rate=None)
        await anext(offers)
        second = await one.hub.send(written(tmp_path / "b", 1), None, rate=None)
        await elapse(1)
        await offers.aclose()  # type: ignore[attr-defined]
        with pytest.raises(FileError, match="nobody takes files there"):
            await second.wait()
        assert not first.is_over


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "C:\\CON", "nul.txt", ".bashrc", "a\0b\n", "x" * 255, "..", "\u202egpj.exe"]
)
@turned
async def test_names_of_strangers_lead_nowhere(tmp_path: Path, name: str) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name=name, size=3, folder=["..", "/", "aux"])
        transfer = await (await offered(two)).accept(tmp_path / "there")
        await stranger.say("begin")
        stranger.channel.send(b"abc")
        await stranger.say("end", sha256=sha256(b"abc").hexdigest())
        await transfer.wait()
    assert transfer.path is not None
    assert transfer.path.parent == tmp_path / "there" / "file" / "file" / "_aux"
    assert transfer.path.name.isprintable()
    assert not transfer.path.name.startswith(".")
    assert os.listdir(tmp_path) == ["there"]  # noqa: PTH208 - of one folder


@pytest.mark.parametrize(
    ("said", "data"),
    [
        ([("begin", {})], [bytes(5)]),  # more than it said
        ([("begin", {"at": 2})], []),  # goes on where nothing is
        ([], [b"a"]),  # before it begins
        ([("begin", {}), ("begin", {})], []),
        ([("offer", {"name": "b", "size": 1})], []),
        ([("done", {})], []),
        ([("limit", {"octets": -1})], []),
        ([("begin", {}), ("end", {"sha256": "x"})], []),
        ([("begin", {}), ("end", {"sha256": "0" * 64})], []),  # ends early
    ],
)
@turned
async def test_who_breaks_the_rules_is_cut_off_and_nothing_gets_a_name(
    tmp_path: Path, said: list[tuple[str, dict[str, object]]], data: list[bytes]
) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name="a", size=4)
        transfer = await (await offered(two)).accept(tmp_path / "there")
        await stranger.until("accept")
        for kind, fields in said:
            await stranger.say(kind, **fields)
        for each in data:
            stranger.channel.send(each)
        with pytest.raises(FileError):
            await transfer.wait()
        await stranger.until("cancel")
        await stranger.closed.wait()
        assert not (tmp_path / "there" / "a").exists()


@turned
async def test_who_sends_more_than_may_wait_is_cut_off(tmp_path: Path) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name="a", size=2**50)
        with pytest.raises(FileError, match="no room for a"):
            await (await offered(two)).accept(tmp_path / "there")
        await stranger.until("cancel")


@turned
async def test_an_offer_of_a_million_files_is_cut_off(tmp_path: Path) -> None:
    async with connected() as (one, two):
        offers = two.hub.offers()
        for number in range(2 * REFUSED[1]):
            stranger = Stranger(one, str(number))
            await stranger.opened()
            stranger.channel.send(json.dumps({"type": "offer", "name": "a", "size": 1}))
            if not two.link._deaf:
                (await anext(offers)).reject()
            await stranger.closed.wait()
        assert two.link._deaf
        with pytest.raises(FileError, match="too many"):
            await (await one.hub.send(written(tmp_path / "a", 1), None, rate=None)).wait()


@turned
async def test_no_more_are_offered_at_once_than_there_is_room_for(tmp_path: Path) -> None:
    path = written(tmp_path / "a", 1)
    async with connected() as (one, two):
        transfers = [await one.hub.send(path, None, rate=None) for _ in range(AT_ONCE + 3)]
        await elapse(1)
        assert len(two.hub._offers) == AT_ONCE
        strangers = [Stranger(one, str(number)) for number in range(AT_ONCE)]
        for stranger in strangers:
            await stranger.say("offer", name="a", size=1)
        assert len(two.hub._offers) == AT_ONCE_OFFERED
        for transfer in transfers[: AT_ONCE + 1]:
            transfer.cancel()
        await elapse(1)
        assert len(two.hub._offers) == 2 + AT_ONCE_OFFERED - AT_ONCE


@turned
async def test_offers_that_nobody_asks_for_are_refused_after_a_while(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent = await one.hub.send(written(tmp_path / "a", 1), None, rate=None)
        await elapse(UNASKED - 1)
        assert not sent.is_over
        with pytest.raises(FileError, match="nobody takes files there"):
            await sent.wait()
        assert not two.hub._offers


@turned
async def test_an_offer_that_is_withdrawn_is_none(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent = await one.hub.send(written(tmp_path / "a", 1), None, rate=None)
        offer = await offered(two)
        sent.cancel()
        await elapse(1)
        with pytest.raises(FileError, match="offered no more"):
            await offer.accept(tmp_path)
        offer.reject()


@turned
async def test_who_sends_nothing_more_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name="a", size=10)
        transfer = await (await offered(two)).accept(tmp_path / "there")
        await stranger.say("begin")
        stranger.channel.send(b"abc")
        await elapse(STALLED + 1)
        with pytest.raises(FileError, match="nothing has come of a"):
            await transfer.wait()
    (part,) = (tmp_path / "there").iterdir()
    assert part.read_bytes() == b"abc"


@pytest.mark.parametrize("octets", [1, 2_000])
@turned
async def test_who_trickles_is_given_up_and_who_is_slow_is_not(tmp_path: Path, octets: int) -> None:
    async with connected() as (one, two):
        stranger = Stranger(one)
        await stranger.say("offer", name="a", size=1_000_000)
        transfer = await (await offered(two)).accept(tmp_path / "there")
        await stranger.say("begin")
        for _ in range(25):
            stranger.channel.send(bytes(octets))
            await elapse(STALLED / 2)
        assert transfer.is_over == (octets == 1)
        assert (two.hub.promised == 0) == (octets == 1)
        if octets == 1:
            with pytest.raises(FileError, match="less than 10000 bytes have come of a in 600 s"):
                await transfer.wait()


@turned
async def test_a_peer_that_takes_nothing_more_is_given_up(tmp_path: Path) -> None:
    async with connected() as (one, two):
        sent, _ = await carried(one, two, written(tmp_path / "a", 3_000_000), tmp_path / "there", rate=500_000)
        await elapse(1)
        for incoming in two.link.receiving:
            incoming._channel.on_message = None
        await elapse(STALLED + 10)
        with pytest.raises(FileError, match=r"has said nothing|nothing has come"):
            await sent.wait()
