"""Who may take part in a cluster: CURVE keys, allow lists, bundles, seals, tickets and signatures."""
