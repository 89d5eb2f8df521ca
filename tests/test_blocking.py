"""The blocking form: real ends over a real server, of which a test without an event loop sees the same as one with."""

import asyncio
import inspect
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, assert_type

import av
import pytest
from files_helpers import written
from waiting import blocked_until

import synopticon_rtc
from synopticon_rtc import EncodedVideoFrame, Moment, SignalingServer, TestPattern, Tone, Visitor, sync
from synopticon_rtc.basics.loop import LoopThread
from synopticon_rtc.errors import ConnectionLost, FileError, NobodyAnswered, SourceError
from synopticon_rtc.events import Events, PeerEvent

CARD = TestPattern((320, 180), 30)
NOWHERE = "ws://127.0.0.1:9/ws"
INNER = {"network", "aclose", "origin", "tap", "tapped", "hear_names", "refuse"}
OTHERWISE = {
    "Receiver": INNER | {"expect"},
    "Broadcaster": INNER,
    "PublishedStream": {"tap"},
    "ReceivedStream": {"found_by", "totals", "describe", "end", "given", "report"},
    "Events": {"heard", "emit", "close"},
    "Room": {"aclose"},
    "ParticipantReceiver": INNER | {"expect", "start"},
    "FileTransfer": {"came", "end", "on_cancel"},
}
"""What the blocking form has under another name, or is for other parts of the package."""
KINDS: dict[str, Any] = {"Events": Events, "ParticipantReceiver": synopticon_rtc.Receiver}
"""What the async form has under another name."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = SignalingServer(port=0)
    thread = LoopThread("server", RuntimeError)
    thread.start()
    thread.run(server.__aenter__())
    yield server.url
    thread.stop(server.__aexit__(None, None, None))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("synopticon ")]


def test_frames_come_one_after_the_other_to_a_loop_and_to_several_threads(url: str) -> None:
    with sync.Broadcaster(url, CARD, name="card") as broadcaster, sync.Receiver(url, timeout=20) as receiver:
        first = receiver.read(timeout=20)
        numbers = [TestPattern.read_number(first.frame.to_ndarray(format="gray")) or 0]
        for moment in receiver:
            numbers.append(TestPattern.read_number(moment.frame.to_ndarray(format="gray")) or 0)
            if len(numbers) == 10:
                break
        with ThreadPoolExecutor(4) as threads:
            moments = [*threads.map(lambda _: receiver.read(), range(8))]
        assert len({moment.rtp_timestamp for moment in moments}) == 8
        assert broadcaster.peers == (receiver.signaling.session,)
        blocked_until(lambda: receiver.age(moments[-1]) is not None)  # clocks are known a little after the first frame
    assert numbers == sorted(set(numbers))
    assert receiver.stats.frames >= 18
    assert broadcaster.stats.frames >= 18


def test_the_kind_of_a_frame_is_known(url: str) -> None:
    with sync.Broadcaster(url, CARD), sync.Receiver(url, decode=False, timeout=20) as receiver:
        assert_type(receiver, sync.Receiver[EncodedVideoFrame])
        assert_type(receiver.read(), Moment[EncodedVideoFrame])
        assert next(iter(receiver)).frame.codec == "vp8"
    assert_type(sync.Receiver(NOWHERE), sync.Receiver[av.VideoFrame])
    assert_type(sync.Receiver(NOWHERE, video=False), sync.Receiver[None])


def test_errors_are_those_of_the_async_form(url: str) -> None:
    with pytest.raises(ValueError, match="sync must be one of exact, latest"):
        sync.Receiver(url, sync="never")  # type: ignore[call-overload]
    with pytest.raises(SourceError), sync.Broadcaster(url, "/nowhere.mp4"):
        pass
    with sync.Receiver(url, broadcaster="nobody", timeout=0.1) as receiver:
        with pytest.raises(NobodyAnswered, match=r"no broadcaster 'nobody' answered within 0\.1 s"):
            next(iter(receiver))
        with pytest.raises(TimeoutError, match=r"no moment came within 0\.01 s"):
            receiver.read(timeout=0.01)
        with pytest.raises(ConnectionLost, match="no broadcaster is connected"):
            receiver.send("notes", "hello")


def test_what_is_not_open_says_how_to_open_it() -> None:
    receiver = sync.Receiver(NOWHERE)
    says = (
        r"this Receiver is not open: use it inside `with Receiver\(\.\.\.\) as \.\.\.:`, or after `\.\.\.\.start\(\)`"
    )
    for _ in range(2):
        for use in (receiver.read, lambda: next(iter(receiver)), lambda: receiver.send("notes", "")):
            with pytest.raises(RuntimeError, match=says):
                use()
        assert receiver.stats.frames == 0
        if not receiver._thread.begun:
            receiver.start()
            with pytest.raises(RuntimeError, match="entered only once: make another one for each `with`"):
                receiver.start()
        receiver.close()


def test_everybody_in_a_room_is_received(url: str) -> None:
    told: list[str] = []
    with (
        sync.Broadcaster(url, CARD, name="Ada"),
        sync.Broadcaster(url, CARD, name="Ben"),
        sync.Room(url) as room,
        ThreadPoolExecutor(2) as threads,
    ):
        assert_type(room, sync.Room[av.VideoFrame])
        room.events.subscribe(lambda event: told.append(event.state))
        people = [person for _, person in zip(range(2), room, strict=False)]
        assert {person.name for person in people} == {"Ada", "Ben"}
        assert {*room.participants} == {*people}
        assert set(told) <= {"joined"}
        for person in people:
            moment = next(iter(person.receiver))
            assert_type(moment, Moment[av.VideoFrame])
            blocked_until(lambda: person.receiver.clock_offset is not None)  # noqa: B023 - it is called at once
            assert person.receiver.clock_offset == pytest.approx(0, abs=1)
            assert (person.is_here, person.state.state, person.beside) == (True, "connected", None)
        seen = [moment for _, moment in zip(range(20), room.moments(), strict=False)]
        assert {moment.participant for moment in seen} == {*people}
        captured = [moment.captured for moment in seen if moment.captured and not moment.late]
        assert captured == sorted(captured)
        endless = [threads.submit(list, person.receiver) for person in people]
        blocked_until(lambda: not any(each.done() for each in endless))
        room.close()
        assert all(each.result(20) is not None for each in endless)
    with pytest.raises(RuntimeError, match="this Room is not open"):
        next(iter(sync.Room(url)))
    with pytest.raises(ValueError, match="within must be 0 or more"), sync.Room(url) as room:
        next(room.moments(within=-1))


def test_events_come_to_callbacks_which_can_read_and_to_iterations_which_end(url: str) -> None:
    seen: list[tuple[str, tuple[str, ...]]] = []
    with sync.Broadcaster(url, CARD) as broadcaster, ThreadPoolExecutor(1) as threads:

        def see(event: PeerEvent) -> None:
            seen.append((event.state, broadcaster.peers))
            with pytest.raises(RuntimeError, match="a callback cannot wait"):
                broadcaster.wait_closed()

        end = broadcaster.events.subscribe(see)
        told = threads.submit(list, broadcaster.events)
        blocked_until(lambda: len(broadcaster._it.events._iterations) == 1)
        with sync.Receiver(url) as receiver:
            receiver.read(20)
            session = receiver.signaling.session
        blocked_until(lambda: len(seen) == 3)
        end()
        broadcaster.close()
        assert [event.state for event in told.result(20)] == ["connecting", "connected", "closed"]
    assert seen == [("connecting", ()), ("connected", (session,)), ("closed", ())]
    assert broadcaster.stats.faults == 0


def test_messages_and_sound_go_over_it(url: str) -> None:
    with (
        sync.Broadcaster(url, CARD, audio=Tone()) as broadcaster,
        sync.Receiver(url, timeout=20) as receiver,
    ):
        receiver.read()
        assert broadcaster.send("notes", "hello") == frozenset()
        assert next(receiver.messages("notes")).data == "hello"
        receiver.send("notes", b"too")
        assert next(broadcaster.messages("notes")).data == b"too"
        for moment in receiver.audio():
            assert moment.samples.size
            break
        blocked_until(lambda: not receiver._it._sounds)  # it is listened to no more


def test_streams_are_published_and_changed(url: str) -> None:
    with sync.Broadcaster(url, CARD) as broadcaster, sync.Receiver(url, timeout=20) as receiver:
        screen = broadcaster.publish("screen", TestPattern((160, 90), 30), bitrate=100_000)
        assert [*broadcaster.streams] == ["camera", "screen"]
        assert next(receiver.moments("screen")).frame.width == 160
        screen.mute()
        screen.bitrate = 200_000
        assert (screen.muted, screen.bitrate, screen.kind) == (True, 200_000, "video")
        blocked_until(lambda: receiver.streams["screen"].muted)
        screen.replace(TestPattern((80, 60), 30))
        screen.unmute()
        blocked_until(lambda: (frame := receiver.streams["screen"].snapshot()) is not None and frame.width == 80)
        screen.unpublish()
        assert [*broadcaster.streams] == ["camera"]


def test_it_can_be_asked_who_may_watch(url: str) -> None:
    async def admit(visitor: Visitor) -> bool:
        return visitor.name == "Ada"

    with (
        sync.Broadcaster(url, CARD, admit=admit),
        sync.Receiver(url, timeout=0.5) as receiver,
        pytest.raises(NobodyAnswered, match="does not admit you"),
    ):
        receiver.read()


def waiting() -> set[str]:
    """Return the names of what runs on the event loop."""
    return {task.get_coro().__name__ for task in asyncio.all_tasks()}  # type: ignore[union-attr]


def test_whoever_waits_is_let_go_when_another_thread_closes(url: str) -> None:
    receiver = sync.Receiver(url).start()
    with ThreadPoolExecutor(2) as threads:
        iterating, reading = threads.submit(list, receiver), threads.submit(receiver.read)
        blocked_until(lambda: receiver._thread.call(waiting) >= {"_read", "following"})
        receiver.close()
        assert iterating.result(20) == []
        with pytest.raises(RuntimeError, match="not open"):
            reading.result(20)


def test_ctrl_c_ends_a_wait_and_closes(url: str) -> None:
    def interrupt() -> None:
        blocked_until(lambda: "following" in receiver._thread.call(waiting))
        os.kill(os.getpid(), signal.SIGINT)

    receiver = sync.Receiver(url)
    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyboardInterrupt), receiver:  # noqa: PT012 - what is waited for
        threads.submit(interrupt)
        next(iter(receiver))


def test_files_go_both_ways(url: str, tmp_path: Path) -> None:
    path, there = written(tmp_path / "notes.bin", 300_000), tmp_path / "there"
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder" / "one.bin", 5)
    with sync.Broadcaster(url, CARD) as broadcaster, sync.Receiver(url, name="bob", timeout=20) as receiver:
        receiver.read()
        blocked_until(lambda: broadcaster.peers)
        offers = receiver.files
        sent = broadcaster.send_file(path, to="bob")
        received = next(offers).accept(there)
        assert [*received][-1].octets == 300_000
        sent.wait()
        assert (received.is_over, received.error, received.sent, sent.sent) == (True, None, False, True)
        assert (there / "notes.bin").read_bytes() == path.read_bytes()
        [sent] = broadcaster.send_folder(tmp_path / "folder", to="bob")
        received = next(offers).accept(there)
        sent.wait()
        received.wait()
        assert received.path == there / "folder" / "one.bin"
        sent = receiver.send_file(path)
        next(broadcaster.files).reject("no room")
        with pytest.raises(FileError, match="no room"):
            sent.wait()
        [sent] = receiver.send_folder(tmp_path / "folder")
        sent.cancel()
        with pytest.raises(FileError, match="cancelled"):
            sent.wait()


@pytest.mark.parametrize("name", sync.__all__)
def test_it_has_all_that_the_async_form_has(name: str) -> None:
    kind = KINDS.get(name) or getattr(synopticon_rtc, name)
    _, _, told = inspect.cleandoc(kind.__doc__).partition("Attributes:\n")
    attributes = set(re.findall(r"^    (\w+): ", told.partition("\n\n")[0], re.MULTILINE))
    attributes |= {each for each in dir(kind) if not each.startswith("_")}
    assert attributes - OTHERWISE.get(name, set()) <= set(dir(getattr(sync, name)))
