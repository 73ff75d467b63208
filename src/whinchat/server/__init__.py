"""``whinchat serve``: classifiers behind HTTP, with a page."""

# Of the extra `serve`, by the names under which they are imported.
SERVER_PACKAGES = ("fastapi", "prometheus_client", "uvicorn")
