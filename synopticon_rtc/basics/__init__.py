"""What every room stands on: text of others, the clock, the newest item, means of late."""
