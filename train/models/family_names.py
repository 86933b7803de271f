"""The names of the families, in a file without scikit-learn, so that the command line can list them anywhere."""

from typing import Final, Literal, get_args

FamilyName = Literal["gradient-boosting", "random-forest"]
FAMILY_NAMES: Final[tuple[FamilyName, ...]] = get_args(FamilyName)
