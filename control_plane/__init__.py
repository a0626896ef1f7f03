"""One slice's brain: keeps the committed rows, decides placement over snapshots of them, and says what each node should run."""
