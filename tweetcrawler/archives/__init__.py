"""Files of posts that were collected before: containers, formats, and the import."""
