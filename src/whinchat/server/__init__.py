"""``whinchat serve``: classifiers behind HTTP, with a page."""
