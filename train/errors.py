"""Errors that stop a training, each with one sentence for its user.

TrainingError
├── DataError      the rows cannot be used as they are
└── ParityError    ONNX does not answer what scikit-learn answers
"""

from pricing.errors import AppraiserError


class TrainingError(AppraiserError):
    """The training cannot go on; nothing has been written."""


class DataError(TrainingError):
    """The rows cannot be used as they are."""


class ParityError(TrainingError):
    """ONNX does not answer what scikit-learn answers."""
