"""What the processes do while things fail: workflows that talk, and those who talk with them."""
