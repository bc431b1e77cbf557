"""What a run comes to before it starts: tokens from a sample of the input, time from earlier runs or arithmetic."""
