"""One node's hands: joins a slice, carries out its desired document, reports, and goes on when cut off."""
