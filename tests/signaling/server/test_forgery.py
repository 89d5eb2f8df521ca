"""No spelling of a message lets any reader of it see another sourceSession than the true one."""

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from synopticon_rtc.signaling.server.limits import Limits
from synopticon_rtc.signaling.server.server import SignalingServer

NODE = shutil.which("node")
VICTIM = "VICTIM"  # stands for the session that is to be taken for the sender, and has its length
KEY = "sourceSession"
TYPE = b'"type":"webrtc_ice"'

Reader = Callable[[str], Any]


def first(text: str) -> Any:
    """Read as one that takes the first of several equal keys; the server's stamp must then be the only one."""
    pairs = json.loads(text, object_pairs_hook=list)
    return next(value for name, value in pairs if name == KEY)


def last(text: str) -> Any:
    return json.loads(text)[KEY]


@pytest.fixture(scope="module")
def readers() -> Iterator[list[Reader]]:
    """Both of Python's, and JSON.parse where node is there."""
    if NODE is None:
        yield [first, last]
        return
    script = """
        require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
            const message = JSON.parse(JSON.parse(line));
            console.log(JSON.stringify(message.sourceSession));
        });
    """
    with subprocess.Popen([NODE, "-e", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdin
        assert node.stdout
        stdin, stdout = node.stdin, node.stdout

        def javascript(text: str) -> Any:
            stdin.write(json.dumps(text) + "\n")
            stdin.flush()
            return json.loads(stdout.readline() or "null")

        yield [first, last, javascript]
        stdin.close()


async def session_of(websocket: ClientConnection) -> str:
    session: str = json.loads(await websocket.recv())["sessionId"]
    return session


@contextlib.asynccontextmanager
async def three() -> AsyncIterator[tuple[ClientConnection, ClientConnection, ClientConnection]]:
    """Who forges, who reads, and whom the first wants to be taken for."""
    async with (
        SignalingServer(port=0, limits=Limits(close=0.05)) as server,
        connect(server.url, compression=None) as hostile,
        connect(server.url, compression=None) as reader,
        connect(server.url, compression=None) as victim,
    ):
        yield hostile, reader, victim


async def passed_on(payloads: list[bytes], opcode: Opcode = Opcode.TEXT) -> tuple[list[str], str]:
    """What comes of messages to everybody, and the true session of their sender."""
    async with three() as (hostile, reader, victim):
        source, target, taken = await session_of(hostile), await session_of(reader), await session_of(victim)
        for payload in payloads:
            data = payload.replace(VICTIM.encode(), taken.encode())
            hostile.transport.write(Frame(opcode, data).serialize(mask=True))
        with contextlib.suppress(ConnectionClosed):
            await hostile.send('{"type":"ping"}')
            while json.loads(await hostile.recv())["type"] != "pong":
                pass
        end = json.dumps({"type": "webrtc_ice", "targetSession": target, "end": source})
        await victim.send(end)
        texts = []
        async with asyncio.timeout(20):
            while not (text := str(await reader.recv())).startswith(end[:-1]):
                texts.append(text)
        return texts, source


def spelled(key: str) -> st.SearchStrategy[str]:
    """Return a key as a JSON string, each character as it is or escaped."""

    def write(escaped: list[int]) -> str:
        ways = (str, lambda c: f"\\u{ord(c):04x}", lambda c: f"\\u{ord(c):04X}")
        return "".join(ways[way](c) for c, way in zip(key, escaped, strict=True))

    way = st.sampled_from([0, 0, 0, 1, 2])
    return st.lists(way, min_size=len(key), max_size=len(key)).map(write).map('"{}"'.format)


blank = st.text(" \t\n\r", max_size=2)
near = ["sourcesession", "sourceSession ", "ourceSession", "targetSession", "type", "__proto__", "toJSON"]
keys = (
    spelled(KEY)
    | st.sampled_from(near).flatmap(spelled)
    | st.sampled_from(
        ['"sourceSession\\u0000"', '"\\ud800sourceSession"', '"source\\uDFFFSession"', '"\u017fourceSession"']
    )
    | st.text(max_size=5).map(json.dumps)
)
victims = st.just(f'"{VICTIM}"')
values = st.recursive(
    victims
    | st.sampled_from(
        ["null", "0", "-1.5e300", "true", '""', '"\\ud83d"', '"\\\\"', '"\\""', '"}"', f'{{"{KEY}":"{VICTIM}"}}']
    )
    | st.text(max_size=8).map(json.dumps)
    | st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False))
    | st.integers(1, 300).map(lambda depth: depth * "[" + depth * "]"),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[{','.join(items)}]")
        | st.lists(st.tuples(keys, inner), max_size=3).map(
            lambda items: "{" + ",".join(f"{k}:{v}" for k, v in items) + "}"
        )
    ),
    max_leaves=5,
)
members = st.builds("{}{}{}:{}{}{}".format, blank, keys, blank, blank, victims | values, blank)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A message that should be passed on, with as many sources as one likes."""
    before, after = draw(st.lists(members, max_size=3)), draw(st.lists(members, max_size=3))
    kind = draw(st.builds("{}:{}".format, spelled("type"), spelled("webrtc_ice")))
    return f"{draw(blank)}{{{','.join([*before, kind, *after])}}}{draw(blank)}".encode(errors="surrogatepass")


@st.composite
def broken(draw: st.DrawFn) -> bytes:
    """The same with some bytes put in or taken out, wherever."""
    data = bytearray(draw(messages()))
    for _ in range(draw(st.integers(1, 2))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(
            st.binary(max_size=3) | st.sampled_from([b'"', b"}", b"\\", b"\xff"])
        )
    return bytes(data)


@settings(max_examples=120, deadline=None)
@given(
    payloads=st.lists(messages() | broken(), min_size=1, max_size=6),
    opcode=st.sampled_from([Opcode.TEXT, Opcode.BINARY]),
)
@pytest.mark.long
async def test_no_reader_sees_another_source(readers: list[Reader], payloads: list[bytes], opcode: Opcode) -> None:
    texts, source = await passed_on(payloads, opcode)
    assert [[read(text) for read in readers] for text in texts] == [[source] * len(readers)] * len(texts)


@pytest.mark.parametrize(
    "member",
    [
        b'"sourceSession":"VICTIM"',
        b'"sourceSession":"VICTIM","sourceSession":"VICTIM"',
        b'"\\u0073ourceSession":"VICTIM"',
        b'"\\u0073\\u006f\\u0075\\u0072\\u0063\\u0065\\u0053\\u0065\\u0073\\u0073\\u0069\\u006f\\u006E":"VICTIM"',
        b'"sourceSession" \n\t\r : "VICTIM"',
        b'"x":{"sourceSession":"VICTIM"}',
        b'"x":"\\",\\"sourceSession\\":\\"VICTIM"',
        b'"__proto__":{"sourceSession":"VICTIM"}',
        b'"x":' + 200 * b"[" + 200 * b"]" + b',"\\u0073ourceSession":"VICTIM"',
        b'"x":' + 200 * b'{"sourceSession":' + b'"VICTIM"' + 200 * b"}",
        b'"sourceSession":null',
        b'"sourceSession":{"toString":"VICTIM"}',
    ],
)
@pytest.mark.parametrize("shape", [b"{%(type)b,%(forged)b}", b"{%(forged)b,%(type)b}", b"{%(forged)b,%(type)b} \n"])
async def test_a_forged_message_is_passed_on_with_its_true_source(
    readers: list[Reader], member: bytes, shape: bytes
) -> None:
    texts, source = await passed_on([shape % {b"type": TYPE, b"forged": member}])
    assert [[read(text) for read in readers] for text in texts] == [[source] * len(readers)]


@pytest.mark.parametrize(
    "payload",
    [
        b"{%b" % TYPE,
        b"{%b}}" % TYPE,
        b'{%b}{"sourceSession":"VICTIM"}' % TYPE,
        b'[{%b,"sourceSession":"VICTIM"}]' % TYPE,
        b'{%b,"x":"\\ud800","sourceSession":"VICTIM"}' % TYPE,
        b'{%b,"\\udfffsourceSession":"VICTIM"}' % TYPE,
        b'{%b,"name":"\xff"}' % TYPE,
        b'{%b,"name":"\xed\xa0\x80"}' % TYPE,  # a surrogate, as UTF-8 must not have it
        b'{%b,"name":"\xc0\xa2,"sourceSession":"VICTIM""}' % TYPE,  # an overlong quotation mark
        b'\xef\xbb\xbf{%b,"sourceSession":"VICTIM"}' % TYPE,
        b"{%b,'sourceSession':'VICTIM'}" % TYPE,
        b'{%b,"sourceSession":"VICTIM",}' % TYPE,
        b'{%b,"x":%b' % (TYPE, 100_000 * b"["),
    ],
)
async def test_what_is_no_message_reaches_nobody(payload: bytes) -> None:
    texts, _ = await passed_on([payload])
    assert texts == []
