"""Speed, as ratios: each figure beside a bare baseline that was measured in the same run.

`python -m benchmarks` plays them all, `python -m benchmarks --list` says which there
are. Nothing here asserts a time: the table says what was measured and whether the
goal was met. What the figures mean and where the time goes: docs/benchmarks.md.
"""
