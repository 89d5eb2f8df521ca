"""A stream as its receiver sees it: frames and faces paired, played out, and how long they took."""
