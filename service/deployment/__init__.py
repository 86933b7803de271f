"""Which versions a worker serves, and how a deployment reaches all workers."""
