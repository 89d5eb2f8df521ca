"""Streams and their faces on disk, and back."""
