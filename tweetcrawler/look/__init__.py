"""Plans, status and reports, and their display."""
