"""The commands, and what they share: options, output, status lines, the window."""
