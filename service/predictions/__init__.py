"""The path of a prediction, from the bytes of a request to the bytes of its answer."""
