"""Shell 1: watches the cluster, asks the core, acts; serves admission."""
