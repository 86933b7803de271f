"""Ratio studies: predicted prices against sale prices, by the measures of mass appraisal."""
