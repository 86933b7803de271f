"""The report of a version: its manifest as one HTML file for people.

* Every figure on the page is read from the manifest, and is marked with its path there.
* The file needs no other one, and holds no script: it opens from disk and obeys a strict content security policy.
"""
