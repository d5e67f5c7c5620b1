"""The two secrets of a folder of CSV files: its bookkeeping, and how a file is merged."""
