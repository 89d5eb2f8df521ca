"""Files between two peers, over data channels of their own."""
