"""What is bought, known, open and to come: plans, status, reports, and how they are shown."""
