"""The heart: what a price is, and the format that training and serving agreed on."""
