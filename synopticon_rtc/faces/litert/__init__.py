"""MediaPipe's face landmarker without MediaPipe: LiteRT runs the models, and numpy and OpenCV do what is around them.

Start with ``engine.py``, which is the way of a frame. What each part does, and with which constants, follows
``mediapipe/tasks/cc/vision/face_landmarker`` of https://github.com/google-ai-edge/mediapipe (Apache License 2.0).
"""
