"""The commands, each in a small module of its own; ``main`` is their table."""
