"""Everything that can go wrong with a model or an artifact, as one tree. None of these knows HTTP.

AppraiserError
├── ArtifactError            a published version cannot be used
│   ├── UnknownVersionError    there is no such version
│   └── DamagedArtifactError   its files are not what was published
│       └── UnreadableArtifactError  its files cannot be read now; what they hold is not known
├── VersionExistsError       a version is published once
├── NotWritableError         the folder of the versions cannot be written
├── DeploymentError          it cannot be deployed like that, and nothing has changed
│   ├── NothingDeployedError   the deployment names no version yet
│   ├── NoPreviousError        there is nothing to roll back to
│   ├── SplitError             the weights of a split are none
│   └── DeploymentChangedError somebody else has deployed meanwhile
├── JournalError             a prediction, or what the journal names, cannot be looked up
│   ├── UnknownPredictionError there is no record of it
│   └── DamagedJournalError    a line is no record
├── KeyStoreError            the keys of clients cannot be changed or read like that
│   ├── UnknownKeyError        there is no such key, or it is over
│   └── DamagedKeysError       their file is not what was written
│       └── UnreadableKeysError    their file cannot be read now; what it holds is not known
└── ModelError               a graph that cannot be run, or does not answer with prices

UnreadableError, a second base of two of these, is a failed read: it is worth another try, where damage is not.
A note of an exception says what has changed before it was raised: Stays, or Undone.
"""

from collections.abc import Iterator
from contextlib import contextmanager


class Stays(str):
    """A note of an exception: this has changed, and stays so."""

    __slots__ = ()


class Undone(str):
    """A note of an exception: what had changed was taken back like this."""

    __slots__ = ()


@contextmanager
def changed(sentence: str) -> Iterator[None]:
    """Note on any exception of the block, an interruption too, what has changed before the block."""
    try:
        yield
    except BaseException as error:
        error.add_note(Stays(sentence))
        raise


class AppraiserError(Exception):
    """Base of all errors of the domain; its text is one sentence for a person."""


class UnreadableError(AppraiserError):
    """The disk, the permissions or the limits of this process keep a file from being read."""


class ArtifactError(AppraiserError):
    """A published version cannot be used."""


class UnknownVersionError(ArtifactError):
    """There is no published version of that name."""


class DamagedArtifactError(ArtifactError):
    """The files of a version are not what was published."""


class UnreadableArtifactError(DamagedArtifactError, UnreadableError):
    """The files of a version, or the deployment, cannot be read now."""


class VersionExistsError(AppraiserError):
    """The version is published already; published versions never change."""


class NotWritableError(AppraiserError):
    """The folder of the published versions cannot be written."""


class DeploymentError(AppraiserError):
    """It cannot be deployed like that, and nothing has changed."""


class NothingDeployedError(DeploymentError):
    """No version has been deployed."""


class NoPreviousError(DeploymentError):
    """There is no previous version to roll back to."""


class SplitError(DeploymentError):
    """The weights of a split do not divide its clients."""


class DeploymentChangedError(DeploymentError):
    """Another deployment has come between what was seen and what was wanted."""


class JournalError(AppraiserError):
    """A recorded prediction, or the versions that the journal names, cannot be looked up."""


class UnknownPredictionError(JournalError):
    """There is no record of this prediction."""


class DamagedJournalError(JournalError):
    """A line of the journal is not a record."""


class ModelError(AppraiserError):
    """The graph cannot be run, or does not answer with prices."""


class KeyStoreError(AppraiserError):
    """The keys of clients cannot be changed or read like that, and nothing has changed."""


class UnknownKeyError(KeyStoreError):
    """There is no such key, or it is over."""


class DamagedKeysError(KeyStoreError):
    """The file of the keys is not what was written."""


class UnreadableKeysError(DamagedKeysError, UnreadableError):
    """The file of the keys cannot be read now."""
