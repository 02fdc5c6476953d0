"""Shell 2: keeper, pulse and report, the three processes of the agent on every host."""
