"""One slice's brain: keeps committed rows, decides placement over snapshots of them, tells each node what to run."""
