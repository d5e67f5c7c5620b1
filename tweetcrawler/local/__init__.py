"""Programs for the operator's own machine: the private PostgreSQL server and the demo."""
