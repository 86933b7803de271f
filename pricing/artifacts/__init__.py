"""The formats on disk: manifest, versions, the pointer to what is deployed."""
