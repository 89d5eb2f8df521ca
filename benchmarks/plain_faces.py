"""Faces on aiortc alone, as a user would send them: MediaPipe in the track, what it finds as JSON on a data channel.

To benchmarks/plain.py this adds what MediaPipe's and aiortc's documentation show.
"""

import asyncio
import json
import time

import av
import mediapipe
from aiortc import RTCDataChannel, RTCPeerConnection
from mediapipe.tasks.python import BaseOptions, vision

from benchmarks.plain import Card, Draw
from synopticon_rtc.faces.model import find_model


class FaceCard(Card):
    """What is drawn, as a track, and the landmarks in each frame on a channel to everybody."""

    def __init__(self, draw: Draw) -> None:
        super().__init__(draw)
        self._channels: list[RTCDataChannel] = []
        self._landmarker = vision.FaceLandmarker.create_from_options(
            vision.FaceLandmarkerOptions(
                base_options=BaseOptions(model_asset_path=str(find_model())), running_mode=vision.RunningMode.VIDEO
            )
        )

    def joined(self, connection: RTCPeerConnection) -> None:
        """Somebody is about to be offered the track."""
        self._channels.append(connection.createDataChannel("faceData"))

    async def recv(self) -> av.VideoFrame:
        """Draw the next frame when it is due, and send the landmarks in it."""
        frame = await super().recv()
        message = await asyncio.to_thread(self._find, frame)
        for channel in self._channels:
            if channel.readyState == "open":
                channel.send(message)
        return frame

    def _find(self, frame: av.VideoFrame) -> str:
        captured = time.time()
        image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=frame.to_ndarray(format="rgb24"))
        found = self._landmarker.detect_for_video(image, int(frame.time * 1000))
        landmarks = [[{"x": point.x, "y": point.y, "z": point.z} for point in face] for face in found.face_landmarks]
        return json.dumps({"type": "face_landmarks", "timestamp": captured * 1000, "landmarks": landmarks})
