"""Training of the small detector of digits: a tool, not part of what runs models.

Importing this package imports nothing heavy; import from its modules.
"""
