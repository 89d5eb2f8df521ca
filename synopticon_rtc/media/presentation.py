"""Films as they are meant to be seen: upright, not combed, with square pixels, and in colours that screens show."""

import math
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import av.error
import numpy as np
import numpy.typing as npt
from av.filter import Graph
from av.filter.context import FilterContext
from av.sidedata.sidedata import SideDataContainer, Type

from synopticon_rtc.basics.products import unwarned
from synopticon_rtc.media.picture import even

HD_LINES = 720
"""Lines from which on a film that does not name its colours has those of HD, BT.709, and not those of SD, BT.601."""
_UNSPECIFIED, _BT709, _RGB = 2, 1, 0  # ITU-T H.273, matrix coefficients
_PQ, _HLG = 16, 18  # ITU-T H.273, transfer characteristics
_TURNS = {  # what brings a picture upright, by the linear part of its display matrix
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): (("hflip", ""),),
    (1, 0, 0, -1): (("vflip", ""),),
    (-1, 0, 0, -1): (("hflip", ""), ("vflip", "")),
    (0, 1, 1, 0): (("transpose", "cclock_flip"),),
    (0, -1, 1, 0): (("transpose", "cclock"),),
    (0, 1, -1, 0): (("transpose", "clock"),),
    (0, -1, -1, 0): (("transpose", "clock_flip"),),
}
_UPRIGHT = (1, 0, 0, 1)


class _Form(NamedTuple):
    """What decides how a frame must be treated; as long as it stays, so does the filter graph."""

    width: int
    height: int
    pixels: str
    matrix: int
    transfer: int
    turn: tuple[int, int, int, int]
    aspect: Fraction
    interlaced: bool


class Presentation:
    """Makes of the frames of one film what its makers wanted to be seen.

    WebRTC can neither turn a picture nor say that its pixels are not square, and what receives it takes one kind of
    colours for granted; so all this is done before a frame is looked at or encoded. Frames that need nothing pass as
    they are.

    Args:
        size: The width and height, in pixels, within which frames are scaled down; None for no limit.
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        self._size = size
        self._form: _Form | None = None
        self._graph: Graph | None = None
        self._interlaced = False

    def take(self, frame: av.VideoFrame, aspect: Fraction | None) -> Iterator[av.VideoFrame]:
        """Take a decoded frame, and give those that can be shown now; deinterlacing keeps one back.

        Args:
            frame: As the decoder made it.
            aspect: Width by height of one of its pixels, as the film says it.
        """
        self._interlaced = self._interlaced or frame.interlaced_frame
        if frame.colorspace == _UNSPECIFIED and frame.height >= HD_LINES:
            frame.colorspace = _BT709
        form = _Form(
            frame.width,
            frame.height,
            frame.format.name,
            frame.colorspace,
            frame.color_trc,
            _turn(frame),
            aspect or Fraction(1),
            self._interlaced,
        )
        if form != self._form:
            yield from self.flush()
            self._form, self._graph = form, _graph(form, frame, self._size)
        if self._graph is None:
            yield frame
        else:
            self._graph.push(frame)
            yield from self._pull()

    def flush(self) -> Iterator[av.VideoFrame]:
        """Give what was kept back; the film ends, or goes on in another form."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._pull()
        self._form = self._graph = None

    def _pull(self) -> Iterator[av.VideoFrame]:
        while self._graph is not None:
            try:
                frame = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            if isinstance(frame, av.VideoFrame):
                yield frame


def _turn(frame: av.VideoFrame) -> tuple[int, int, int, int]:
    """Return how the frame must be turned and mirrored, to the nearest right angle (ISO 14496-12, section 6.2.2)."""
    try:
        # A frame keeps its frame.side_data, which keeps the frame: only the garbage collector would free the picture.
        data = SideDataContainer(frame)[Type.DISPLAYMATRIX]  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    except KeyError:
        return _UPRIGHT
    except ValueError:  # PyAV does not know all that FFmpeg puts beside a picture, such as EXIF, and then gives none
        angle = math.radians(frame.rotation)  # counterclockwise, without mirroring
        cosine, sine = round(math.cos(angle)), round(math.sin(angle))
        turn = cosine, -sine, sine, cosine
        return turn if turn in _TURNS else _UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
    longest = max(abs(a), abs(b), abs(c), abs(d), 1)
    turn = round(a / longest), round(b / longest), round(c / longest), round(d / longest)
    return turn if turn in _TURNS else _UPRIGHT


def _graph(form: _Form, frame: av.VideoFrame, size: tuple[int, int] | None) -> Graph | None:
    """Return the filters that a frame of this form needs, None where it needs none."""
    steps: list[tuple[str, str]] = []
    if form.interlaced:
        steps.append(("bwdif", "mode=send_frame:deint=interlaced"))
    steps += _TURNS[form.turn]
    width, height = _shown_size(form, size)
    turned = form.turn[0] == 0
    scaled = (width, height) != ((form.height, form.width) if turned else (form.width, form.height))
    bright = form.transfer in {_PQ, _HLG}
    if not (steps or scaled or bright):
        return None
    if bright:
        steps += [("scale", f"w={width}:h={height}"), ("format", "gbrp10le")]
    graph = Graph()
    last = graph.add(
        "buffer",
        f"width={form.width}:height={form.height}:pix_fmt={form.pixels}:time_base={frame.time_base}"
        f":colorspace={form.matrix}:range={int(frame.color_range)}",
    )
    for name, arguments in steps:
        last = _link(graph, last, name, arguments)
    if bright:
        with tempfile.TemporaryDirectory(prefix="synopticon-") as folder:
            table = Path(folder) / "tones.cube"
            table.write_text(_tone_table(form.transfer))
            last = _link(graph, last, "lut3d", f"file={table}:interp=tetrahedral")
            last = _link(graph, last, "setparams", "color_primaries=bt709:color_trc=bt709:colorspace=gbr")
            return _finish(graph, last, width, height)
    return _finish(graph, last, width, height)


def _finish(graph: Graph, last: FilterContext, width: int, height: int) -> Graph:
    last = _link(graph, last, "scale", f"w={width}:h={height}:out_color_matrix=bt601:out_range=limited")
    last = _link(graph, last, "format", "yuv420p")
    last = _link(graph, last, "setsar", "1")
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _link(graph: Graph, last: FilterContext, name: str, arguments: str) -> FilterContext:
    step = graph.add(name, arguments)
    last.link_to(step)
    return step


def _shown_size(form: _Form, size: tuple[int, int] | None) -> tuple[int, int]:
    """Return the width and height of an upright frame with square pixels: no side gets shorter but to fit ``size``."""
    width, height = Fraction(form.width), Fraction(form.height)
    if form.aspect > 1:
        width *= form.aspect
    else:
        height /= form.aspect
    if form.turn[0] == 0:
        width, height = height, width
    most = size or (math.inf, math.inf)
    scale = min(1.0, most[0] / float(width), most[1] / float(height))
    return even(round(float(width) * scale)), even(round(float(height) * scale))


# Bright films (HDR)

_Array = npt.NDArray[np.float64]
_STEPS = 33  # of the table along each axis
_REFERENCE_WHITE = 203.0  # cd/m2 of paper, ITU-R BT.2408
_PEAK = 1000.0 / _REFERENCE_WHITE  # of what is to be told apart; what is brighter is white
_KNEE = 0.6  # of white, up to where nothing is changed: faces lie below it
_GAMMA = 2.4  # of the screens that BT.709 is made for, ITU-R BT.1886
_BT2020_TO_BT709 = np.array(  # linear light, ITU-R BT.2087
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]]
)


@unwarned()
def _tone_table(transfer: int) -> str:
    """Return what maps R, G and B of BT.2100 to those of BT.709, as a .cube file has it."""
    axis = np.linspace(0.0, 1.0, _STEPS)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes fastest
    signal = np.stack([red, green, blue], axis=-1).reshape(-1, 3)
    light = (_pq_light(signal) if transfer == _PQ else _hlg_light(signal)) / _REFERENCE_WHITE
    light = np.clip(light @ _BT2020_TO_BT709.T, 0.0, None)
    brightest = np.maximum(light.max(axis=1, keepdims=True), 1e-6)
    light *= _compressed(brightest) / brightest  # all three alike, so that no colour changes
    rows = np.clip(light, 0.0, 1.0) ** (1 / _GAMMA)
    return "\n".join([f"LUT_3D_SIZE {_STEPS}", *(f"{r:.5f} {g:.5f} {b:.5f}" for r, g, b in rows.tolist())])


def _compressed(light: _Array) -> _Array:
    """Bend what is brighter than the knee so that the peak becomes white (Reinhard et al. 2002, equation 4)."""
    span = 1 - _KNEE
    most = (_PEAK - _KNEE) / span
    above = np.clip((light - _KNEE) / span, 0.0, most)
    return np.where(light <= _KNEE, light, _KNEE + span * above * (1 + above / most**2) / (1 + above))


def _pq_light(signal: _Array) -> _Array:
    """Light of a PQ signal in cd/m2 (SMPTE ST 2084)."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    root = signal ** (1 / m2)
    light: _Array = 10_000.0 * (np.clip(root - c1, 0.0, None) / (c2 - c3 * root)) ** (1 / m1)
    return light


def _hlg_light(signal: _Array) -> _Array:
    """Light of an HLG signal on a screen of 1000 cd/m2 (ITU-R BT.2100, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)  # noqa: PLR2004 - of the curve
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593])
    light: _Array = 1000.0 * np.maximum(luminance, 1e-9)[:, None] ** 0.2 * scene
    return light
