"""Changes of a series: new patches, edits, and the user's commits as patches."""
