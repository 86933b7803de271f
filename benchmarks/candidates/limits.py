"""What the worker and Flask cost alone: `gunicorn benchmarks.candidates.limits:empty_view`, or `:empty_function`."""

from benchmarks.request import empty_function
from benchmarks.request import empty_view as make_empty_view

__all__ = ["empty_function", "empty_view"]

empty_view = make_empty_view()
