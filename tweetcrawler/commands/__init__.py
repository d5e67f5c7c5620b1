"""Commands, one file each: options, values, help, and what it does."""
