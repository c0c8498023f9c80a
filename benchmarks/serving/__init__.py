"""Load on HTTP servers: a light client, open and closed loops, overload, soaking, and a peer server to compare with."""
