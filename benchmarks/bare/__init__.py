"""The baselines: what the same work costs without this project's code.

Each is a program of its own that does no more than it must. They share the bytes of
`exchange`, made beforehand, and nothing else.
"""
