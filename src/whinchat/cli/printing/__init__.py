"""What the command line prints of the records that the functions of whinchat return."""
