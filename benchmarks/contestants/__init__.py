"""The contestants; a worker imports only the module of its own contestant."""
