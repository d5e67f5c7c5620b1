"""What runs on this machine for its operator: the private PostgreSQL server and the demo."""
