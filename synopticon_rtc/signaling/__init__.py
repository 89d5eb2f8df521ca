"""Signaling: how broadcasters and receivers find each other through a Synopticon server."""
