"""The figures of the report, measured on the test rows of a version."""
