"""The commands. Each parses, calls one function, prints; what takes long to import is imported inside."""
