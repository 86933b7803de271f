"""The errors of models and artifacts, as one tree. None of these knows HTTP.

AppraiserError
├── ArtifactError            a published version cannot be used
│   ├── UnknownVersionError    the version was not found
│   └── DamagedArtifactError   its files are not what was published
│       └── UnreadableArtifactError  its files cannot be read now; what they hold is not known
├── VersionExistsError       a version is published once
├── NotWritableError         the folder of the versions cannot be written
├── DeploymentError          the deployment is not valid, and nothing has changed
│   ├── NothingDeployedError   the deployment names no version yet
│   ├── NoPreviousError        a previous version was not found
│   ├── SplitError             the weights of a split are not valid
│   └── DeploymentChangedError another deployment has come meanwhile
├── JournalError             a prediction, or what the journal names, cannot be looked up
│   ├── UnknownPredictionError the record was not found
│   └── DamagedJournalError    a line is not a record
├── KeyStoreError            the keys of clients cannot be changed or read like that
│   ├── UnknownKeyError        the key is unknown, expired or revoked
│   └── DamagedKeysError       their file is not what was written
│       └── UnreadableKeysError    their file cannot be read now; what it holds is not known
└── ModelError               a graph that cannot be run, or does not answer with prices

UnreadableError, a second base of two of these, is a failed read: another try may succeed.
A note of an exception states what has changed before it was raised: Stays, or Undone.
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
    """A published version of that name was not found."""


class DamagedArtifactError(ArtifactError):
    """The files of a version are not what was published."""


class UnreadableArtifactError(DamagedArtifactError, UnreadableError):
    """The files of a version, or the deployment, cannot be read now."""


class VersionExistsError(AppraiserError):
    """The version is published already; published versions never change."""


class NotWritableError(AppraiserError):
    """The folder of the published versions cannot be written."""


class DeploymentError(AppraiserError):
    """A deployment is not valid, and nothing has changed."""


class NothingDeployedError(DeploymentError):
    """No version has been deployed."""


class NoPreviousError(DeploymentError):
    """A previous version to roll back to was not found."""


class SplitError(DeploymentError):
    """The weights of a split do not divide its clients."""


class DeploymentChangedError(DeploymentError):
    """Another deployment has come between what was seen and what was wanted."""


class JournalError(AppraiserError):
    """A recorded prediction, or the versions that the journal names, cannot be looked up."""


class UnknownPredictionError(JournalError):
    """A record of this prediction was not found."""


class DamagedJournalError(JournalError):
    """A line of the journal is not a record."""


class ModelError(AppraiserError):
    """The graph cannot be run, or does not answer with prices."""


class KeyStoreError(AppraiserError):
    """The keys of clients cannot be changed or read like that, and nothing has changed."""


class UnknownKeyError(KeyStoreError):
    """The key is unknown, expired or revoked."""


class DamagedKeysError(KeyStoreError):
    """The file of the keys is not what was written."""


class UnreadableKeysError(DamagedKeysError, UnreadableError):
    """The file of the keys cannot be read now."""
