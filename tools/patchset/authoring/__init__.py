"""A series is written: new patches, edits, and the user's commits read back."""
