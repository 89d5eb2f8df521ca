"""The way of a frame to the faces in it, by LiteRT."""

from importlib.metadata import version
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from synopticon_rtc.faces.engine import Options
from synopticon_rtc.faces.face import Face
from synopticon_rtc.faces.litert.blendshapes import FaceBlendshapes
from synopticon_rtc.faces.litert.bundle import Bundle
from synopticon_rtc.faces.litert.detector import FaceDetector
from synopticon_rtc.faces.litert.geometry import CanonicalFace, FaceGeometry
from synopticon_rtc.faces.litert.mesh import FaceMesh, region_of
from synopticon_rtc.faces.litert.network import Floats
from synopticon_rtc.faces.litert.one_euro import MediaPipeSmoothing
from synopticon_rtc.faces.litert.picture import Picture
from synopticon_rtc.faces.litert.region import Region, joined


class LiteRTEngine:
    """An :class:`~synopticon_rtc.faces.engine.Engine`.

    Faces are followed: where one was in the last frame, its landmarks are looked for in this one. The whole frame is
    looked at only where fewer are followed than are wanted.

    Args:
        path: Of the bundle with the models.
        options: What to find.

    Raises:
        ModelError: The bundle lacks a part that this takes, or one of them is something else.
    """

    def __init__(self, path: Path, options: Options) -> None:
        self.name = f"LiteRT {version('ai-edge-litert')}"
        self._most = options.max_faces
        bundle = Bundle(path)
        self._detector = FaceDetector(bundle)
        self._mesh = FaceMesh(bundle)
        self._blendshapes = FaceBlendshapes(bundle) if options.blendshapes else None
        self._geometry = FaceGeometry(CanonicalFace.of(bundle)) if options.matrix else None
        self._smoothing = MediaPipeSmoothing()
        self._reformatter = VideoReformatter()
        self._followed: list[Region] = []  # in fractions of a frame: the next may have another size

    def close(self) -> None:
        """Let go of the models, which goes without saying."""

    def detect(self, frame: av.VideoFrame, milliseconds: int) -> tuple[Face, ...]:
        """Return the faces in a frame. Raises ValueError where it is too large."""
        picture = Picture.of(frame, self._reformatter)
        regions = [region.scaled(picture.width, picture.height) for region in self._followed]
        if len(regions) < self._most:
            regions = joined(regions, self._detector.find(picture, self._most))[: self._most]
        landmarks = self._mesh.find(picture, [region for region in regions if region.sound])
        self._followed = [region_of(mesh).scaled(1 / picture.width, 1 / picture.height) for mesh in landmarks]
        if not landmarks:
            self._smoothing = MediaPipeSmoothing()
        elif self._most == 1:  # with more MediaPipe smooths none
            landmarks = [self._smoothing.smooth(landmarks[0], milliseconds)]
        return tuple(self._face(one, picture) for one in landmarks)

    def _face(self, landmarks: Floats, picture: Picture) -> Face:
        """Make a face of landmarks in pixels."""
        size = np.array([picture.width, picture.height, picture.width], np.float32)
        shares = np.asarray(landmarks / size, np.float32)
        scores = {} if self._blendshapes is None else self._blendshapes.score(landmarks)
        if self._geometry is None:
            return Face(shares, scores)
        return Face(shares, scores, self._geometry.matrix(shares, picture.width / picture.height))
