"""Looks for faces in a stream of frames, at either end of a connection: in which of them, and with whose detector."""
