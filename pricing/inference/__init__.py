"""From the bytes of a version to prices and bounds."""
