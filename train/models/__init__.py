"""From sales to a certified version."""
