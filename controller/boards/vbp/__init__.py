"""VBP, the open reference protocol of a motor board that remembers its cycles."""
