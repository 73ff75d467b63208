"""The commands of the command line, by what they are for. ``COMMANDS`` of a module maps names to functions."""
