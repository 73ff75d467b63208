"""Table formats, and the registry that training, prediction and the server share."""
