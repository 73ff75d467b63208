"""A trained classifier in the formats of others, each proved to answer alike."""
