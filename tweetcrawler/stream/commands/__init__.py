"""Command of the room."""
