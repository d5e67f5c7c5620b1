"""Every fault that must be survived, and the promise that it must not break."""
