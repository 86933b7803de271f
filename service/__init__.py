"""HTTP around the heart: Flask in front of `pricing`, and the worker that carries it."""
