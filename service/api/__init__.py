"""The HTTP API and its documentation."""
