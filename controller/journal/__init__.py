"""The journal: what was commanded, what was done, what still has to be said.

The only owner of the database. `journal.open_journal` opens it.
"""
