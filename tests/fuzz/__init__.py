"""Coverage-guided fuzzing of every place where bytes from outside come in: docs/fuzzing.md."""
