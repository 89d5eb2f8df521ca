"""Streams and their faces on disk, and back; and given to the other instruments of a lab."""
