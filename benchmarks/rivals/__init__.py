"""whinchat beside sysone and decisionformer, which train chat models to answer typed questions as well."""
