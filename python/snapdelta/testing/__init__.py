"""Tools to test against snapdelta: a simulated feed, recordings, real servers, exact comparison."""
