"""Routes, one file a dialect."""
