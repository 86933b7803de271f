"""Prices for whole files: divided into parts, priced by all cores, and put together in their order.

* The plan is made once and never changed: the files, their parts, the version, and how the files are read.
* A part is written under a name of its own attempt and renamed when it is whole. Its record is written last.
* The file of prices appears whole or not at all. It depends on the plan only, so an interrupted run that is continued
  gives the same bytes.
"""
