"""Signaling: how broadcasters and receivers find each other through a Synopticon server."""

import lazy_loader

# A client does not import the server, nor a server the client.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
