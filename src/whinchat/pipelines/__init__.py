"""What one command does, from start to end: run, evaluate, calibrate, review, compare, push, inspect."""
