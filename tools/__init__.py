"""What made the files that are generated."""
