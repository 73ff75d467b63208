"""The arena: comparison of methods on equal data, with several numbers of training rows and several seeds."""
