"""What every room stands on: text of others, a clock that does not jump, the newest item, means of the last seconds."""
