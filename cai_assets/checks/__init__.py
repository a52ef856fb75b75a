"""Asset checks: what must hold for every table. They read, compare and say; they never mend."""
