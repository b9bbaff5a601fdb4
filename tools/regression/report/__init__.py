"""Reports: JSON, Markdown and HTML from one schema, and what differs between two of them."""
