"""What both ends do with a connection: carry out the handshake, and talk over the control channel."""
