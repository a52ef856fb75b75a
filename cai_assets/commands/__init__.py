"""The commands of `cai`, one module each; what they share is in `common.py`, `runs.py` and `reporting.py`.

These modules import only click at the top: `cai --help` names every command and has to answer at once.
"""
