"""Everything that can go wrong with a model or an artifact, as one tree. None of these knows HTTP.

AppraiserError
├── ArtifactError            a published version cannot be used
│   ├── UnknownVersionError    there is no such version
│   └── DamagedArtifactError   its files are not what was published
├── VersionExistsError       a version is published once
├── NotWritableError         the folder of the versions cannot be written
├── NothingDeployedError     the deployment names no version yet
└── ModelError               a graph that cannot be run, or does not answer with prices
"""


class AppraiserError(Exception):
    """Base of all errors of the domain; its text is one sentence for a person."""


class ArtifactError(AppraiserError):
    """A published version cannot be used."""


class UnknownVersionError(ArtifactError):
    """There is no published version of that name."""


class DamagedArtifactError(ArtifactError):
    """The files of a version are not what was published."""


class VersionExistsError(AppraiserError):
    """The version is published already; published versions never change."""


class NotWritableError(AppraiserError):
    """The folder of the published versions cannot be written."""


class NothingDeployedError(AppraiserError):
    """No version has been deployed."""


class ModelError(AppraiserError):
    """The graph cannot be run, or does not answer with prices."""
