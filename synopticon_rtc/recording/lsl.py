"""Faces beside other instruments: a stream of the lab streaming layer (LSL), which recorders of a lab understand."""

import asyncio
import contextlib
import logging
import re
import socket
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from synopticon_rtc.basics.life import entered_before, not_open
from synopticon_rtc.basics.version import __version__
from synopticon_rtc.errors import MissingExtra, SynopticonError
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.moment import Moment
from synopticon_rtc.faces.wire import BLENDSHAPES
from synopticon_rtc.recording.lab import MACHINE, Kind, LabSettings, keep_on_this_machine

logger = logging.getLogger(__name__)

TYPE = "MoCap"
POINTS = 478
CENTIMETRES = 0.01  # in metres
BUFFERED = 108
"""Hundreds of samples that wait for a consumer that is away: six minutes at 30 a second, as LSL has it elsewhere."""
QUIET = "[log]\nlevel = -1\n"
"""Has liblsl write only warnings to stderr, and not which settings it has found. Has no effect after its first use."""
UNKNOWN = 100
"""Frames of unknown age after which it is told, if none has had one."""


class Channel(NamedTuple):
    """A channel, as its description in the stream has it.

    Source: https://github.com/sccn/xdf/wiki/MoCap-Meta-Data

    Attributes:
        label: Its name.
        type: What it measures.
        unit: In which unit.
        object: What of: ``head``, or ``face``; empty for what is of the frame.
        marker: The number of the landmark, empty where it is of none.
    """

    label: str
    type: str
    unit: str
    object: str = ""
    marker: str = ""


CHANNELS = (
    Channel("detected", "Detected", "boolean"),
    Channel("face_id", "ObjectId", "none", "face"),
    *(Channel(f"head_{axis.lower()}", f"Position{axis}", "meters", "head") for axis in "XYZ"),
    Channel("head_yaw", "OrientationH", "degrees", "head"),
    Channel("head_pitch", "OrientationP", "degrees", "head"),
    Channel("head_roll", "OrientationR", "degrees", "head"),
    *(Channel(name, "Expression", "normalized", "face") for name in BLENDSHAPES),
)
"""Of every stream, in this order."""

LANDMARKS = tuple(
    Channel(f"landmark_{index}_{axis.lower()}", f"Position{axis}", "normalized", "face", str(index))
    for index in range(POINTS)
    for axis in "XYZ"
)
"""Of those with landmarks, after the others."""


class LSLOutlet:
    """Gives the faces of one video to the lab streaming layer: an async context manager, of the extra ``lsl``.

    Each frame is a sample, stamped by LSL's clock with the time at which the frame was captured. What is not known is
    NaN: all but ``detected`` where there is no face, and what the broadcaster does not find (its detector needs
    ``blendshapes=True`` and ``matrix=True``). Of several faces in a frame it is the one of the lowest id, who has been
    there longest.
    docs/instruments.md says what each channel is, and who can see the stream.

    Args:
        name: Of the stream, by which other programs know it. One that is started again under the same name, on the same
            machine, is the same stream to them, and recorders go on with it.
        landmarks: Whether to give x, y and z of each of the 478 landmarks too.

    Attributes:
        name: Of the stream.
        source_id: What makes it the same after a restart.
        channels: What each value of a sample is.
        seen_by: Who can find and read it, in words.

    Raises:
        ValueError: LSL can have no stream of that name.
    """

    def __init__(self, name: str, *, landmarks: bool = False) -> None:
        if not name or not name.isprintable() or {"'", '"'} & set(name):
            raise ValueError(f"the name of an LSL stream has printable characters but quotes, not {name!r:.100}")
        self.name = name
        self.source_id = f"synopticon-rtc/{socket.gethostname()}/{name}"
        self.channels = CHANNELS + LANDMARKS * landmarks
        self.seen_by = ""
        self._entered = False
        self._pylsl: Any = None
        self._outlet: Any = None
        self._unknown: int | None = 0  # frames of unknown age before the first that was given; None after that

    async def __aenter__(self) -> Self:
        """Load liblsl, and let the stream be found.

        Raises:
            MissingExtra: ``pylsl`` is not installed.
            SynopticonError: liblsl is not there, or the stream would be seen by others than it is meant for.
            RuntimeError: It was entered before.
        """
        if self._entered:
            raise entered_before(self)
        self._entered = True
        self._outlet = await asyncio.to_thread(self._open)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the stream."""
        held, self._outlet = [self._outlet], None
        await asyncio.to_thread(held.clear)  # its destructor waits for threads of liblsl

    def push(self, moment: Moment[Any], age: float | None) -> bool:
        """Give a frame and its faces, in the order in which they were captured; this waits for nobody.

        Faces of another frame than its own (``sync="latest"``) are left out.

        Args:
            moment: Of a receiver, or of a broadcaster's :attr:`~synopticon_rtc.Broadcaster.faces`.
            age: Seconds since it was captured: ``receiver.age(moment)``; at a broadcaster ``time.time() -
                moment.captured``. A frame of unknown age (None) has no stamp, and is left out.

        Returns:
            Whether it was given.

        Raises:
            RuntimeError: It is not open.
        """
        if self._outlet is None:
            raise not_open(self)
        now = self._pylsl.local_clock()
        if age is None:
            self._miss()
            return False
        self._unknown = None
        self._outlet.push_chunk(self._sample(moment), now - age)
        return True

    def _miss(self) -> None:
        if self._unknown is not None:
            self._unknown += 1
            if self._unknown == UNKNOWN:
                logger.warning(
                    "nothing is given to LSL: the broadcaster does not tell when it has captured its frames, as pages "
                    "do not"
                )

    def _sample(self, moment: Moment[Any]) -> npt.NDArray[np.float32]:
        sample = np.full((1, len(self.channels)), np.nan, np.float32)
        sample[0, 0] = moment.detected
        if moment.detected and moment.faces:
            _describe(min(moment.faces, key=lambda face: face.id), sample[0, 1:])
        return sample

    def _open(self) -> Any:  # noqa: ANN401 - pylsl has no types
        self._pylsl = pylsl = _library()
        settings = LabSettings.read()
        if settings.path is None:
            with contextlib.suppress(NotImplementedError):  # of an old liblsl
                pylsl.set_config_content(QUIET)
        info = pylsl.StreamInfo(self.name, TYPE, len(self.channels), pylsl.IRREGULAR_RATE, "float32", self.source_id)
        self._tell(info.desc())
        try:
            outlet = pylsl.StreamOutlet(info, max_buffered=BUFFERED)
        except RuntimeError as error:
            raise SynopticonError(f"the LSL stream {self.name} cannot be offered: {error}") from error
        if settings.scope == MACHINE:
            try:
                keep_on_this_machine(_ports(outlet.get_info().as_xml(), settings.multicast_port))
            except SynopticonError:
                del outlet  # now, and not when whoever holds the error lets go of this frame
                raise
        self.seen_by = settings.seen_by
        return outlet

    def _tell(self, description: Any) -> None:  # noqa: ANN401 - pylsl has no types
        """Write down what the channels are, and who measures."""
        channels = description.append_child("channels")
        for channel in self.channels:
            element = channels.append_child("channel")
            for name, value in channel._asdict().items():
                if value:
                    element.append_child_value(name, value)
        acquisition = description.append_child("acquisition")
        acquisition.append_child_value("manufacturer", "Synopticon")
        acquisition.append_child_value("model", f"synopticon-rtc {__version__}")


def _library() -> Any:  # noqa: ANN401 - pylsl has no types
    try:
        import pylsl  # noqa: PLC0415 - of an extra, and takes its time
    except ImportError:
        raise MissingExtra("an LSL stream", "lsl") from None
    except RuntimeError as error:
        raise SynopticonError(
            f"liblsl cannot be loaded ({str(error).splitlines()[0]}); where pylsl has none for a machine, install it "
            "with conda install -c conda-forge liblsl, or set PYLSL_LIB to its file"
        ) from error
    return pylsl


def _ports(description: str, multicast_port: int) -> dict[Kind, frozenset[int]]:
    """Return the ports on which an outlet listens, of its description as XML."""
    families = {"4": socket.AF_INET, "6": socket.AF_INET6}
    ports: dict[Kind, frozenset[int]] = {}
    for version, service, port in re.findall(r"<v([46])(data|service)_port>([1-9]\d*)<", description):
        if service == "data":
            ports[families[version], socket.SOCK_STREAM] = frozenset({int(port)})
        else:
            ports[families[version], socket.SOCK_DGRAM] = frozenset({int(port), multicast_port})
    if {kind for _, kind in ports} != {socket.SOCK_STREAM, socket.SOCK_DGRAM}:
        raise SynopticonError("LSL cannot be kept on this machine: liblsl does not tell on which ports it listens")
    return ports


def _describe(face: Face, values: npt.NDArray[np.float32]) -> None:
    """Write what is known of a face into the channels after the first."""
    values[0] = face.id
    if face.matrix is not None and face.pose is not None:
        values[1:4] = face.matrix[:3, 3] * CENTIMETRES
        values[4:7] = face.pose
    end = 7 + len(BLENDSHAPES)
    values[7:end] = [face.blendshapes.get(name, np.nan) for name in BLENDSHAPES]
    points = face.landmarks.ravel()[: len(values) - end]
    values[end : end + len(points)] = points
