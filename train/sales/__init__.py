"""From files to sales, and which of them are learned from."""
